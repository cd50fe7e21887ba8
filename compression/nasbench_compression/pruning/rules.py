"""Which rule says how channels pass an operation, so that it is known where each one comes out.

A rule says, for one operation, which dimensions of its results have the channels of which dimensions of its arguments.
An operation without a rule is taken for one that works on each channel by itself, if shapes do not contradict. A wrong
guess is found when the cut is tried, see `nasbench_compression.pruning.check`.
"""

from __future__ import annotations

from collections.abc import Callable

from nasbench_compression.pruning import calls, computing, rearranging
from nasbench_compression.pruning.calls import Call

Rule = Callable[[Call], None]

_NAMES: dict[Rule, str] = {
    # Each position by itself. Adaptive pools consist of operations that change the strides of memory.
    calls.elementwise: "adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d",
    calls.mixing: "_softmax _log_softmax cumsum cumprod logcumsumexp sort topk roll",
    calls.opaque: """
        index_put gather scatter scatter_add index_add index_copy masked_select masked_scatter as_strided _trilinear
        nonzero take put tril triu diagonal dot _cdist_forward
    """,
    rearranging.flip: "flip",
    rearranging.reduction: f"""
        {" ".join(rearranging.AVERAGES)} sum nansum prod amax amin aminmax max min argmax argmin any all logsumexp norm
        linalg_vector_norm
    """,
    rearranging.permute: "permute transpose t",
    rearranging.reshape: "view _unsafe_view _reshape_alias reshape flatten unflatten squeeze unsqueeze",
    rearranging.expand: "expand",
    rearranging.repeat: "repeat",
    rearranging.factory: """
        zeros ones full empty arange linspace rand randn eye new_zeros new_ones new_full new_empty
    """,
    rearranging.concatenation: "cat",
    rearranging.stack: "stack",
    rearranging.split: "split split_with_sizes chunk tensor_split unsafe_split unsafe_chunk",
    rearranging.unbind: "unbind",
    rearranging.select: "select",
    rearranging.slicing: "slice",
    rearranging.indexing: "index index_select",
    rearranging.padding: "constant_pad_nd",
    rearranging.windows: "unfold",
    rearranging.trailing: "view_as_real view_as_complex",
    rearranging.channel_shuffle: "channel_shuffle native_channel_shuffle",
    rearranging.pixel_shuffle: "pixel_shuffle pixel_unshuffle",
    rearranging.patches: "im2col col2im",
    computing.gated: "glu",
    computing.embedding: "embedding",
    computing.linear: "linear",
    computing.product: "mm bmm addmm baddbmm mv",
    computing.attention: "scaled_dot_product_attention",
    computing.convolution: "convolution",
    computing.channelwise: "batch_norm instance_norm native_group_norm prelu",
    computing.layer_norm: "native_layer_norm _fused_rms_norm",
    computing.recurrent: "lstm gru rnn_tanh rnn_relu",
    computing.sampling: "grid_sampler_2d grid_sampler_3d",
    computing.sequences: "_pack_padded_sequence _pad_packed_sequence",
}

RULES: dict[str, Rule] = {name: rule for rule, names in _NAMES.items() for name in names.split()}
"""By the name of an operation of ATen, without its overload and without the underscore of those that work in place."""

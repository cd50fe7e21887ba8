"""import: a network from outside becomes a model folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from nasbench.cli.options import Json, read_numbers, read_shape
from nasbench.cli.output import show, tell
from nasbench_registry import UserError
from nasbench_registry.files import key_value, user_path


def import_(
    function: Annotated[
        str,
        typer.Argument(
            help="module:function that gives a network, such as timm:create_model; module:Class; or a file of "
            "torch.export.save, such as network.pt2, where its code is not at hand.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(help="The model folder.", show_default=False)],
    option: Annotated[
        list[str] | None, typer.Option("-o", "--option", help="key=value, an option of it: -o model_name=resnet18")
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(help="A safetensors file, or one of torch.save with tensors only.", show_default=False),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Name of a data set, or module:function.", show_default=False)
    ] = None,
    data_option: Annotated[
        list[str] | None, typer.Option(help="key=value, an option of the data set: --data-option size=64")
    ] = None,
    problem: Annotated[
        str, typer.Option(help="What the network is for: its name, or module:Class.")
    ] = "image_classification",
    training: Annotated[
        list[str] | None, typer.Option(help="key=value, an option of fine-tuning: --training learning_rate=0.001")
    ] = None,
    mean: Annotated[
        str | None,
        typer.Option(
            help="Mean of each channel of images in 0..1, as the weights know them: 0.485,0.456,0.406 "
            "[what the network says itself, else that of the training images].",
            show_default=False,
        ),
    ] = None,
    std: Annotated[str | None, typer.Option(help="Standard deviation of each channel.", show_default=False)] = None,
    input_shape: Annotated[
        str | None,
        typer.Option(help="C,H,W, where there are no data and the network does not say it.", show_default=False),
    ] = None,
    seed: Annotated[int, typer.Option(help="Random seed of the weights that the function draws.")] = 0,
    json: Json = False,
) -> None:
    """Make a model folder of a network from outside: a function that builds it, weights, data.

    Every command that takes a model takes the folder. Without data, the network is measured and exported, and what
    needs no data is done to it.
    """
    import torch

    from nasbench.models.build import FunctionBuild
    from nasbench.models.origin import origin_of
    from nasbench.models.outside import check_fits, known_inputs, network_from, normalised, task_of
    from nasbench.models.program import SUFFIX, read_program
    from nasbench.models.store import save_model
    from nasbench.problems.registry import make_problem
    from nasbench.training.config import read_training
    from nasbench_compression.step import count_parameters

    if function.endswith(SUFFIX):
        if option or weights is not None:
            raise UserError(f"{function} holds its weights and takes no options; leave out -o and --weights.")
        network, build = read_program(user_path(function))
    else:
        build = FunctionBuild(function, _options(option, "-o", "model_name=resnet18"))
        network = network_from(build, weights, seed)
    result: dict[str, Any] = {"folder": str(out), "build": build.text, "params": count_parameters(network)}
    if data is None:
        needless = {"--data-option": data_option, "--training": training, "--mean": mean, "--std": std}
        superfluous = [name for name, value in needless.items() if value]
        if superfluous:
            raise UserError(f"{superfluous[0]} is given without --data; name the data set too, or leave it out.")
        example = None if input_shape is None else torch.zeros(1, *read_shape(input_shape))
        task, origin = task_of(network, example), None
    else:
        if input_shape is not None:
            raise UserError(f"--input-shape is {input_shape!r}, and the data say it; leave it out.")
        source = {"name": data, **_options(data_option, "--data-option", "size=64")}
        settings = read_training(_options(training, "--training", "learning_rate=0.001"))
        expected, loaded = known_inputs(network), make_problem({"name": problem}, source, settings)
        means, stds = read_numbers("--mean", mean), read_numbers("--std", std)
        if weights is not None and means is None and stds is None and expected.mean is not None:
            channels = loaded.task.inputs[0].shape[0]
            if len(expected.mean) == channels:
                means, stds = expected.mean, expected.std
                tell(f"images are normalised as the network says: mean {means}, std {stds}")
            else:  # it was built for other images than those that its library trained it on
                tell(
                    f"images are normalised as the training images are, for the network says mean {expected.mean} and "
                    f"the data have {channels} channel(s)"
                )
        loaded = normalised(loaded, means, stds)
        check_fits(network, loaded, build.text)
        metrics = loaded.score(network, "val")
        task, origin = loaded.task, origin_of(loaded, metrics)
        result |= metrics
    save_model(out, network, build=build, task=task, origin=origin)
    result["task"] = task.to_json()
    table = Table(title=Text(f"{out}"), show_header=False)
    for key, value in result.items():
        table.add_row(key, Text(str(value)))
    show(result, table, as_json=json)


def _options(texts: list[str] | None, kind: str, example: str) -> dict[str, Any]:
    return dict(key_value(text, kind, example) for text in texts or ())

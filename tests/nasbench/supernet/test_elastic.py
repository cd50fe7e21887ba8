"""Elastic networks of a trained one."""

import copy

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

import nasbench as nb
from nasbench.supernet.elastic_space import KEPT, LEFT_OUT, ElasticSpace
from nasbench.supernet.sampling import Progressive, Sandwich, TrainingStep
from nasbench.supernet.training import EpochDone, _Step
from nasbench_registry import UserError
from search_spaces import Decision


def changed(space, name):
    """The largest architecture with one decision at its least option."""
    position = [decision.name for decision in space.decisions].index(name)
    picks = [len(decision.options) - 1 for decision in space.decisions]
    picks[position] = 0
    return space.architecture(picks)


def test_the_space_has_resolutions_blocks_and_widths(elastic):
    names = [decision.name for decision in elastic.space.decisions]
    assert elastic.space.decisions[0].options == (6, 8)
    assert elastic.divisible.blocks and set(elastic.divisible.blocks) < set(names)
    inside = next(decision for decision in elastic.space.decisions if decision.when)
    block = next(iter(inside.when))
    without = elastic.space.choices(changed(elastic.space, block))
    assert inside.name not in without, "the width of a layer in a block that is left out does not matter"
    assert inside.options[-1] == 2 * inside.options[0]


def test_the_largest_is_the_trained_network(elastic, trained, digits):
    elastic.calibration_inputs = 0
    images = digits.examples(16)
    with torch.no_grad():
        assert torch.equal(elastic.network(elastic.largest)(images), trained.network.eval()(images))


def test_extracted_networks_give_what_the_supernet_does_and_come_back(elastic, digits, tmp_path):
    """For every kind of elasticity, beside the smallest and a few by chance."""
    images = digits.examples(16)
    space = elastic.space
    width = next(decision.name for decision in space.decisions if not decision.when and decision.name != "resolution")
    archs = [elastic.smallest, changed(space, "resolution"), changed(space, elastic.divisible.blocks[0])]
    for number, arch in enumerate([*archs, changed(space, width), *elastic.sample(2, seed=1)]):
        extracted = elastic.extract(arch)
        member = elastic.make_member(arch)
        buffers = dict(extracted.network.named_buffers())
        for name, buffer in member.network.named_buffers():
            buffer.copy_(buffers[name])
        member.network.eval()
        with torch.no_grad():
            expected = member.forward(elastic.weights, images)
            assert torch.allclose(extracted.network(images), expected, atol=1e-5)
            loaded = nb.load(extracted.save(tmp_path / str(number))).network
            assert torch.equal(loaded(images), extracted.network(images))


def test_an_extracted_network_is_compressed_as_any_other(elastic, digits):
    small = elastic.extract(elastic.smallest).compress(
        [nb.Quantize(precision="int8"), nb.Compile(backend="onnxruntime")]
    )
    assert small.predict(digits.examples(4)).shape == (4, 10)


def test_the_gradient_of_a_step_is_that_of_its_networks_added_up(elastic, digits):
    """Against networks with copies of their weights, whose gradients are put back by hand."""
    elastic.problem = digits
    archs = [elastic.largest, elastic.smallest, *elastic.sample(2, seed=3)]
    images, labels = digits.examples(32), digits.targets(32)
    losses = []

    class Fixed(Sandwich):
        def draw(self, step):
            return archs

    step = _Step(elastic, Fixed(), seed=0).train()
    loss = step.loss(images, step(images), labels)
    loss.backward()
    expected = {name: torch.zeros(shape) for name, shape in elastic.weights.shapes.items()}
    teacher = None
    for arch in archs:
        member = elastic.make_member(arch)
        network = copy.deepcopy(member.fill(elastic.weights)).train()
        outputs = network(images)
        if teacher is None:
            teacher = outputs.detach()
            value = nn.functional.cross_entropy(outputs, labels)
        else:
            value = -(teacher.softmax(1) * outputs.log_softmax(1)).sum(1).mean()
        value.backward()
        losses.append(value.item())
        for name, parameter in network.named_parameters():
            source = member.sources[name]
            whole = expected[source.name.replace(".", "/")]
            places = source.positions.take(torch.arange(whole.numel()).view_as(whole))
            whole.view(-1)[places.flatten()] += parameter.grad.flatten()
    assert loss.item() == pytest.approx(sum(losses), rel=1e-5)
    for name, parameter in elastic.weights.named_parameters():
        assert torch.allclose(parameter.grad, expected[name], atol=1e-5, rtol=1e-4), name


def test_training_together_makes_the_smallest_useful(elastic):
    """The same network before and after: cut without training it is near chance."""
    before = elastic.score(elastic.smallest)["val_acc_pct"]
    epochs = []
    elastic.train(epochs=2, seed=0, on_epoch=epochs.append)
    assert [(done.number, done.epochs) for done in epochs] == [(1, 2), (2, 2)]
    assert all(isinstance(done, EpochDone) and done.loss > 0 for done in epochs)
    assert elastic.epochs == 2
    assert elastic.score(elastic.smallest)["val_acc_pct"] > before


def weights(supernet):
    return {name: value.clone() for name, value in supernet.weights.state_dict().items()}


def test_a_killed_training_goes_on_to_the_same_weights(elastic, tmp_path):
    twin = copy.deepcopy(elastic)
    elastic.train(epochs=2, seed=5)

    def killed(done):
        raise KeyboardInterrupt

    attempt = copy.deepcopy(twin)
    with pytest.raises(KeyboardInterrupt):
        attempt.train(epochs=2, seed=5, folder=tmp_path, on_epoch=killed)
    twin.train(epochs=2, seed=5, folder=tmp_path)
    for name, value in weights(elastic).items():
        assert torch.equal(value, weights(twin)[name]), name


def test_without_calibration_a_network_is_the_same_before_and_after_it_was_stored(elastic, tmp_path):
    """The statistics of batch norm are those of the trained network, and not of what was trained last."""
    elastic.calibration_inputs = 0
    elastic.train(epochs=1, seed=0, folder=tmp_path)
    loaded = nb.load_supernet(tmp_path)
    for name, value in elastic.network(elastic.largest).state_dict().items():
        assert torch.equal(value, loaded.network(loaded.largest).state_dict()[name]), name


def test_progressive_frees_blocks_before_widths(elastic):
    """Also widths of layers that are called depthwise, and blocks whose names say nothing of depth."""
    decisions = (
        Decision("resolution", (6, 8)),
        Decision("stages.0", (LEFT_OUT, KEPT)),
        Decision("stages.0.depthwise", (8, 16)),
    )
    space = ElasticSpace.with_decisions(decisions)
    smallest, largest = space.architecture([0, 0, 0]), space.architecture([1, 1, 1])

    def free(progress):
        step = TrainingStep(space, smallest, largest, np.random.default_rng(0), progress)
        return [len(picks) for picks in Progressive().free_options(step)]

    assert free(0.2) == [2, 1, 1]
    assert free(0.5) == [2, 2, 1]
    assert free(0.9) == [2, 2, 2]


def test_sampled_networks_are_spread_between_the_smallest_and_the_largest():
    """Uniform picks give shares of one half, whose square, as multiply-adds go, is a quarter."""
    blocks = [Decision(f"block{place}", (LEFT_OUT, KEPT)) for place in range(100)]
    space = ElasticSpace.with_decisions([*blocks, *(Decision(f"width{place}", (4, 8, 12, 16)) for place in range(300))])
    rng, again = np.random.default_rng(0), np.random.default_rng(0)
    picks = np.array([space.sample(rng).picks for _ in range(400)])
    assert (picks[:5] == [space.sample(again).picks for _ in range(5)]).all()
    shares = (picks[:, 100:] / 3).mean(axis=1)
    assert stats.kstest(shares**2, "uniform").pvalue > 0.001
    assert stats.kstest((rng.integers(4, size=(400, 300)) / 3).mean(axis=1) ** 2, "uniform").pvalue < 1e-6
    assert all(set(column) == set(range(size)) for column, size in zip(picks.T, space.layout.sizes, strict=True))
    middle = picks[(shares > 0.45) & (shares < 0.55), 100:]
    counted = np.bincount(middle.ravel(), minlength=4) / middle.size
    np.testing.assert_allclose(counted, 0.25, atol=0.03)


def test_it_is_stored_and_loaded(elastic, tmp_path):
    elastic.train(epochs=1, seed=0, folder=tmp_path / "net")
    loaded = nb.load_supernet(tmp_path / "net")
    assert loaded.epochs == 1 and loaded.space.decisions == elastic.space.decisions
    arch = elastic.sample(1, seed=2)[0]
    assert loaded.score(arch) == elastic.score(arch)
    with pytest.raises(UserError, match="holds the training of another supernet, which differs in seed"):
        copy.deepcopy(elastic).train(epochs=1, seed=1, folder=tmp_path / "net")
    (tmp_path / "net" / "weights.safetensors").write_bytes(b"no weights")
    with pytest.raises(UserError, match="does not hold the weights of this supernet"):
        nb.load_supernet(tmp_path / "net")
    for text in ("", "[]", '{"kind": "elastic"}'):  # the last one is of an earlier version
        (tmp_path / "supernet.json").write_text(text)
        with pytest.raises(UserError, match="holds no supernet that can be read"):
            nb.load_supernet(tmp_path)


def test_bad_input_is_refused(elastic, trained, digits):
    another_space = nb.get_space("nasbench201")
    with pytest.raises(UserError, match="belongs to space 'nasbench201', not to 'elastic'"):
        elastic.network(another_space.sample(np.random.default_rng(0)))
    with pytest.raises(UserError, match="shares of the channels above 0 and at most 1"):
        nb.elastic(trained, digits, widths=(0.5, 2))
    with pytest.raises(UserError, match="leave nothing to choose"):
        nb.elastic(trained, digits, widths=(1,), depth=False)
    with pytest.raises(UserError, match="resolution 40 is not from 1 to 8"):
        nb.elastic(trained, digits, resolutions=(40,))
    with pytest.raises(UserError, match="are not an architecture of space 'elastic'"):
        elastic.space.architecture([9] * len(elastic.space.decisions))
    with pytest.raises(UserError, match="there are no networks inside it; take a network that step 'prune' can cut"):
        nb.elastic(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), digits)
    with pytest.raises(UserError, match="unknown importance 'l3'"):
        nb.elastic(trained, digits, importance="l3")
    with pytest.raises(UserError, match="epochs is 0"):
        elastic.train(epochs=0)
    with pytest.raises(UserError, match="learning_rate is -1"):
        elastic.train(epochs=1, learning_rate=-1)
    with pytest.raises(UserError, match="trained on cpu or cuda, not on 'gpu'"):
        elastic.train(epochs=1, device="gpu")
    with pytest.raises(UserError, match="was trained for"):
        elastic.space.build(elastic.largest, nb.Task((1, 8, 8), 3))
    with pytest.raises(UserError, match="is that of a trained supernet; give its folder"):
        nb.get_space("nasbench.supernet.elastic_space:ElasticSpace")

"""Training: that networks learn, that the seed decides everything, when it stops, and that it can be taken up again."""

import copy
import functools
import itertools
import os
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from bounds import check_above, check_below
from judging import judge
from safetensors.torch import load_file, save_file
from torch import nn

from nasbench.data import Data, Split, load_data
from nasbench.problems import supervised
from nasbench.training import Diverged, Epoch, TimedOut, Training, train
from nasbench.training.config import AugmentationConfig, TrainingConfig
from nasbench.training.guessing import Guessing
from nasbench.training.optimization import warm_cosine
from nasbench.training.precision import autocast_type
from nasbench_registry import UserError


@pytest.fixture(scope="module")
def digits() -> Data:
    return load_data("digits")


@pytest.fixture(scope="module")
def few(digits) -> Split:
    """200 images, for what needs no accuracy."""
    return some(digits)


def some(data: Data) -> Split:
    return Split(data.train.examples[:200], data.train.targets[:200])


def network(seed: int = 0, dropout: float = 0.0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(128, 10),
        )


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    states = one.state_dict(), other.state_dict()
    return all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize(("optimizer", "learning_rate"), [("adamw", 0.005), ("sgd", 0.1)])
def test_learns_digits(optimizer, learning_rate, digits) -> None:
    model = network()
    before = judge(model.eval(), digits.val)
    losses = []
    config = TrainingConfig(epochs=5, optimizer=optimizer, learning_rate=learning_rate)
    epochs = train(model, digits.train, config, seed=0, on_epoch=lambda _, loss: losses.append(loss) is None)
    after = judge(model, digits.val)
    assert epochs == len(losses) == 5
    check_above("accuracy", after.accuracy_pct, mean=94.83, sd=1.4)
    check_above("points won", after.accuracy_pct - before.accuracy_pct, mean=84.84, sd=2.2, least=0)
    check_below("loss, to that before", after.loss / before.loss, mean=0.1263, sd=0.015, most=1)
    check_below("last training loss, to the first", losses[-1] / losses[0], mean=0.1269, sd=0.011, most=1)
    assert not any(module.training for module in model.modules())


class TestSeed:
    config = TrainingConfig(epochs=2)

    def test_same_seed_same_weights(self, few) -> None:
        models = [network(dropout=0.3) for _ in range(2)]
        for number, model in enumerate(models):
            torch.manual_seed(number)  # what was drawn before must not matter
            train(model, few, self.config, seed=1)
        assert same_weights(*models)

    @pytest.mark.parametrize("batch_size", [64, 200])
    def test_another_seed_gives_other_weights(self, batch_size, few) -> None:
        models = [network(dropout=0.3 if batch_size == 200 else 0.0) for _ in range(2)]
        for seed, model in enumerate(models):
            train(model, few, TrainingConfig(epochs=2, batch_size=batch_size), seed=seed)
        assert not same_weights(*models)

    def test_the_global_generator_stays_as_it_was(self, few) -> None:
        state = torch.get_rng_state()
        train(network(dropout=0.3), few, self.config, seed=1)
        assert torch.equal(torch.get_rng_state(), state)

    def test_also_when_it_diverges(self, few) -> None:
        state = torch.get_rng_state()
        with pytest.raises(Diverged):
            train(
                network(dropout=0.3),
                few,
                self.config,
                seed=1,
                loss=lambda inputs, logits, labels: logits.sum() * torch.nan,
            )
        assert torch.equal(torch.get_rng_state(), state)


class TestDiverged:
    def test_a_learning_rate_without_measure(self, few) -> None:
        model = nn.Sequential(
            nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)
        )
        config = TrainingConfig(epochs=30, optimizer="sgd", learning_rate=1e30)
        with pytest.raises(Diverged, match=r"epoch \d+ of 30; lower the learning rate"):
            train(model, few, config, seed=0)

    def test_images_that_are_not_finite(self, few) -> None:
        images = few.examples.clone()
        images[7] = torch.nan
        with pytest.raises(Diverged, match="the loss became nan in epoch 1 of 2"):
            train(network(), Split(images, few.targets), TrainingConfig(epochs=2), seed=0)

    def test_the_weights_are_not_spoilt_by_the_step_that_diverged(self, few) -> None:
        model = network()
        before = copy.deepcopy(dict(model.named_parameters()))
        with pytest.raises(Diverged):
            train(
                model,
                few,
                TrainingConfig(epochs=1),
                seed=0,
                loss=lambda inputs, logits, labels: logits.sum() * torch.inf,
            )
        assert all(torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())

    def test_logits_that_are_not_finite(self, few) -> None:
        with pytest.raises(Diverged, match="not finite"):
            judge(lambda images: torch.full((len(images), 10), torch.nan), few)


class TestLoss:
    def test_gets_inputs_logits_and_labels_of_the_same_images(self, few) -> None:
        known = {image.numpy().tobytes(): int(label) for image, label in zip(few.examples, few.targets, strict=True)}
        batch_sizes = []

        def loss(inputs, logits, labels):
            assert inputs.shape == (50, 1, 8, 8)
            assert logits.shape == (50, 10)
            assert logits.requires_grad
            assert [known[image.numpy().tobytes()] for image in inputs] == labels.tolist()
            batch_sizes.append(len(labels))
            return nn.functional.cross_entropy(logits, labels)

        train(network(), few, TrainingConfig(epochs=2, batch_size=50), seed=0, loss=loss)
        assert batch_sizes == [50] * 8

    def test_is_what_the_network_is_trained_on(self, digits) -> None:
        model = network()

        def shifted(inputs, logits, labels):
            return nn.functional.cross_entropy(logits, (labels + 1) % 10)

        train(model, digits.train, TrainingConfig(epochs=3, learning_rate=0.005), seed=0, loss=shifted)
        check_below("accuracy on the labels", judge(model, digits.val).accuracy_pct, mean=0.6574, sd=0.51, most=10)
        moved = Split(digits.val.examples, (digits.val.targets + 1) % 10)
        check_above("accuracy on the moved labels", judge(model, moved).accuracy_pct, mean=90.69, sd=2.1)

    def test_cross_entropy_is_the_default(self, few) -> None:
        models = [network(), network()]
        losses = [None, lambda inputs, logits, labels: nn.functional.cross_entropy(logits, labels)]
        for model, loss in zip(models, losses, strict=True):
            train(model, few, TrainingConfig(epochs=1), seed=0, loss=loss)
        assert same_weights(*models)

    def test_label_smoothing_keeps_the_network_modest(self, digits) -> None:
        confidence = []
        for smoothing in (0.0, 0.5):  # the best network says 0.55 under the second
            model = network()
            config = TrainingConfig(epochs=6, learning_rate=0.005, label_smoothing=smoothing)
            train(model, digits.train, config, seed=0)
            with torch.no_grad():
                confidence.append(model(digits.train.examples).softmax(1).amax(1).mean().item())
        check_below("change of the confidence", confidence[1] - confidence[0], mean=-0.3905, sd=0.0083, most=0)


class TestEpochs:
    def test_every_image_once_an_epoch(self, few) -> None:
        images = []

        def loss(inputs, logits, labels):
            images.extend(image.numpy().tobytes() for image in inputs)
            return nn.functional.cross_entropy(logits, labels)

        train(network(), few, TrainingConfig(epochs=2, batch_size=40), seed=0, loss=loss)
        everything = sorted(image.numpy().tobytes() for image in few.examples)
        assert sorted(images[:200]) == sorted(images[200:]) == everything
        assert images[:200] != images[200:]

    def test_on_epoch_ends_it(self, few) -> None:
        heard = []

        def on_epoch(epoch, loss):
            heard.append((epoch, loss))
            return epoch < 2

        model = network()
        assert train(model, few, TrainingConfig(epochs=9), seed=0, on_epoch=on_epoch) == 2
        assert [epoch for epoch, _ in heard] == [1, 2]
        assert all(isinstance(loss, float) and loss > 0 for _, loss in heard)
        assert not model.training

    def test_epochs_and_learning_rate_may_be_given_apart(self, few) -> None:
        model, configured = network(), network()
        assert train(model, few, TrainingConfig(epochs=9), seed=0, epochs=1, learning_rate=0.01) == 1
        assert train(configured, few, TrainingConfig(epochs=1, learning_rate=0.01), seed=0) == 1
        assert same_weights(model, configured)

    def test_none_at_all(self, few) -> None:
        model = network()
        assert train(model, few, TrainingConfig(), seed=0, epochs=0) == 0
        assert same_weights(model, network())
        assert not model.training

    def test_fewer_images_than_a_batch(self, few) -> None:
        model = network()
        assert train(model, Split(few.examples[:20], few.targets[:20]), TrainingConfig(epochs=1), seed=0) == 1
        assert not same_weights(model, network())


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_weight_decay_is_for_weights_only(optimizer, few) -> None:
    model = network()
    before = copy.deepcopy(dict(model.named_parameters()))
    config = TrainingConfig(epochs=2, optimizer=optimizer, learning_rate=0.01, weight_decay=0.5)
    # No gradient: what changes is decay.
    train(model, few, config, seed=0, loss=lambda inputs, logits, labels: 0 * logits.sum())
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            assert torch.equal(parameter, before[name]), name
        else:
            assert 0.5 * before[name].norm() < parameter.norm() < 0.999 * before[name].norm(), name


@pytest.mark.parametrize(("batches", "epochs", "warmup"), [(20, 12, 1.0), (7, 5, 1.0), (3, 100, 30.0), (17, 1, 1.0)])
def test_learning_rate_rises_to_its_full_value_and_falls_to_nothing(batches, epochs, warmup) -> None:
    factor = warm_cosine(batches, epochs, warmup)
    values = [factor(step) for step in range(batches * epochs)]
    peak = values.index(max(values))
    assert values[0] < 1
    assert values[peak] == 1
    assert peak <= batches * min(warmup, epochs / 5)
    assert all(a < b for a, b in itertools.pairwise(values[: peak + 1]))
    assert all(a > b for a, b in itertools.pairwise(values[peak:]))
    assert 0 < values[-1] < 0.02
    assert factor(batches * epochs) == pytest.approx(0, abs=1e-12)


def test_without_warm_up_the_full_rate_comes_first() -> None:
    assert warm_cosine(10, 10, 0.0)(0) == 1


class TestScore:
    split = Split(torch.arange(5.0).reshape(5, 1, 1, 1), torch.tensor([0, 1, 2, 0, 1]))

    @staticmethod
    def predict(images):
        """Says class 0 to image 0, 1 to 1, 2 to 2, 1 to 3 and 1 to 4: four of five are right."""
        answers = torch.tensor([0, 1, 2, 1, 1])[images.flatten().long()]
        return nn.functional.one_hot(answers, 3).float()

    @pytest.mark.parametrize("batch_size", [1, 2, 5, 512])
    def test_a_predictor_made_by_hand(self, batch_size, monkeypatch) -> None:
        monkeypatch.setattr(supervised, "JUDGED_AT_ONCE", batch_size)
        result = judge(self.predict, self.split)
        assert result.accuracy_pct == 80
        # -log softmax of the label's logit: 1 where it is right, 0 where it is wrong, beside two zeros or a 1 and a 0
        right, wrong = torch.log(1 + 2 * torch.exp(torch.tensor(-1.0))), torch.log(torch.exp(torch.tensor(1.0)) + 2)
        assert result.loss == pytest.approx((4 * right + wrong).item() / 5, rel=1e-6)

    def test_needs_no_gradient_and_changes_nothing(self, few) -> None:
        model = network().eval()
        judge(model, few)
        assert same_weights(model, network())
        assert all(parameter.grad is None for parameter in model.parameters())


AUGMENTED = AugmentationConfig(crop=1, flip=True, cutout=2)
RATES = {"adamw": 0.005, "sgd": 0.05}


def resumable(few: Split, *, seed: int = 0, weights: int = 0, accumulate: int = 1, **changes) -> Training:
    """Four epochs of a network with dropout and batch norm, on images that are augmented."""
    options = {"epochs": 4, "optimizer": "adamw", "augmentation": AUGMENTED} | changes
    config = TrainingConfig(learning_rate=RATES[options["optimizer"]], **options)
    return Training(network(weights, dropout=0.3), few, config, seed=seed, accumulate=accumulate)


def run(training: Training) -> list[Epoch]:
    return [training.run_epoch() for _ in range(training.epoch, training.epochs)]


class TestResume:
    @pytest.mark.parametrize("stop", [0, 1, 2, 3])
    @pytest.mark.parametrize(
        "options",
        [{"optimizer": "adamw"}, {"optimizer": "sgd"}, {"precision": "bf16"}, {"accumulate": 3}],
        ids=lambda options: "-".join(map(str, options.values())),
    )
    def test_after_any_epoch_to_the_bit(self, stop, options, few, tmp_path) -> None:
        whole = resumable(few, **options)
        expected = run(whole)
        first = resumable(few, **options)
        before = [first.run_epoch() for _ in range(stop)]
        save_file(first.state_dict(), tmp_path / "state.safetensors")
        torch.manual_seed(stop)  # what was drawn meanwhile must not matter
        second = resumable(few, weights=1, **options)
        second.load_state_dict(load_file(tmp_path / "state.safetensors"))
        assert second.epoch == stop
        assert before + run(second) == expected
        assert same_weights(second.finish(), whole.finish())

    @pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
    def test_in_another_process(self, optimizer, few, tmp_path) -> None:
        whole = resumable(few, optimizer=optimizer)
        expected = run(whole)
        first = resumable(few, optimizer=optimizer)
        first.run_epoch()
        save_file(first.state_dict(), tmp_path / "state.safetensors")
        code = f"""
            import sys, torch
            sys.path[:0] = [{str(Path(__file__).parent)!r}, {str(Path(__file__).parents[2])!r}]
            torch.set_num_threads(1)
            from test_training import load_data, load_file, resumable, run, save_file, some
            second = resumable(some(load_data("digits")), weights=1, optimizer={optimizer!r})
            second.load_state_dict(load_file({str(tmp_path / "state.safetensors")!r}))
            print([epoch.loss.hex() for epoch in run(second)])
            save_file(second.finish().state_dict(), {str(tmp_path / "weights.safetensors")!r})
        """
        done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == str([epoch.loss.hex() for epoch in expected[1:]])
        weights = whole.finish().state_dict()
        assert all(
            torch.equal(value, weights[name]) for name, value in load_file(tmp_path / "weights.safetensors").items()
        )

    @pytest.mark.parametrize("part", ["model.", "optimizer.", "random.cpu", "order", "augmentation", "epoch"])
    def test_every_part_of_the_state_is_needed(self, part, few) -> None:
        whole, first = resumable(few), resumable(few)
        run(whole)
        first.run_epoch()
        second = resumable(few, weights=1)
        fresh = second.state_dict()
        state = {name: value for name, value in first.state_dict().items() if not name.startswith(part)}
        state |= {name: value for name, value in fresh.items() if name.startswith(part)}
        second.load_state_dict(state)
        run(second)
        assert not same_weights(second.finish(), whole.finish())

    def test_as_train_would_have_done_it(self, few) -> None:
        training = resumable(few)
        heard = []
        model = network(dropout=0.3)
        config = TrainingConfig(epochs=4, learning_rate=RATES["adamw"], augmentation=AUGMENTED)
        train(model, few, config, seed=0, on_epoch=lambda number, loss: heard.append((number, loss)) is None)
        assert [(epoch.number, epoch.loss) for epoch in run(training)] == heard
        assert same_weights(training.finish(), model)

    def test_scoring_between_epochs_changes_nothing(self, few) -> None:
        alone, scored = resumable(few), resumable(few)
        run(alone)
        while scored.epoch < scored.epochs:
            scored.run_epoch()
            judge(scored.model.eval(), few)
            torch.rand(3)
        assert same_weights(alone.finish(), scored.finish())

    def test_two_in_turn_do_not_disturb_each_other(self, few) -> None:
        alone = [resumable(few, seed=seed) for seed in (0, 1)]
        turns = [resumable(few, seed=seed) for seed in (0, 1)]
        for training in alone:
            run(training)
        for _ in range(4):
            for training in turns:
                training.run_epoch()
        for by_itself, in_turn in zip(alone, turns, strict=True):
            assert same_weights(by_itself.finish(), in_turn.finish())


class TestState:
    def test_is_of_contiguous_tensors_on_the_cpu_that_share_nothing(self, few, tmp_path) -> None:
        model = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        )
        model[2].weight = model[1].weight
        model.append(nn.Flatten()).append(nn.Linear(256, 10))
        training = Training(model, few, TrainingConfig(epochs=2), seed=0)
        training.run_epoch()
        state = training.state_dict()
        for name, value in state.items():
            assert value.device.type == "cpu", name
            assert value.is_contiguous(), name
            assert not value.requires_grad, name
        assert len({value.untyped_storage().data_ptr() for value in state.values()}) == len(state)
        save_file(state, tmp_path / "state.safetensors")
        loaded = load_file(tmp_path / "state.safetensors")
        assert loaded.keys() == state.keys()
        assert all(torch.equal(loaded[name], state[name]) for name in state)

    def test_is_a_copy(self, few) -> None:
        training = resumable(few)
        training.run_epoch()
        state = training.state_dict()
        before = {name: value.clone() for name, value in state.items()}
        training.run_epoch()
        assert all(torch.equal(state[name], before[name]) for name in state)

    def test_what_is_loaded_stays_as_it_was(self, few) -> None:
        first, second = resumable(few), resumable(few)
        first.run_epoch()
        state = first.state_dict()
        before = {name: value.clone() for name, value in state.items()}
        second.load_state_dict(state)
        run(second)
        assert all(torch.equal(state[name], before[name]) for name in state)

    def test_lacks_something(self, few) -> None:
        training = resumable(few)
        state = training.state_dict()
        del state["order"], state["random.cpu"]
        with pytest.raises(ValueError, match=r"lacks order, random\.cpu;"):
            training.load_state_dict(state)

    def test_of_another_optimizer(self, few) -> None:
        first = resumable(few, optimizer="sgd")
        first.run_epoch()
        with pytest.raises(ValueError, match="another optimizer than this training's adamw"):
            resumable(few).load_state_dict(first.state_dict())

    def test_of_a_longer_training(self, few) -> None:
        first = resumable(few)
        run(first)
        with pytest.raises(ValueError, match="of epoch 4, and this training has 2"):
            resumable(few, epochs=2).load_state_dict(first.state_dict())

    def test_of_another_network(self, few) -> None:
        another_training = Training(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), few, TrainingConfig(), seed=0)
        with pytest.raises(RuntimeError, match=r"size mismatch|Missing key"):
            resumable(few).load_state_dict(another_training.state_dict())


def test_finish_gives_the_model_back_as_it_came(few) -> None:
    model = network()
    strides = [parameter.stride() for parameter in model.parameters()]
    training = Training(model, few, TrainingConfig(epochs=1), seed=0)
    assert model[3].weight.is_contiguous(memory_format=torch.channels_last)
    training.run_epoch()
    assert training.model.training
    assert training.finish() is model
    assert [parameter.stride() for parameter in model.parameters()] == strides
    assert not model.training


def test_accuracy_is_that_of_the_logits_of_the_epoch(few) -> None:
    right = []

    def loss(inputs, logits, labels):
        right.extend((logits.argmax(1) == labels).tolist())
        return nn.functional.cross_entropy(logits, labels)

    training = Training(network(), few, TrainingConfig(epochs=2, batch_size=64), seed=0, loss=loss)
    for number in (1, 2):
        right.clear()
        done = training.run_epoch()
        assert done.number == number
        assert len(right) == 192  # three batches of 64
        assert done.accuracy_pct == 100 * sum(right) / 192


class TestAugmentation:
    def test_of_nothing_is_no_augmentation(self, few) -> None:
        plain, nothing = network(dropout=0.3), network(dropout=0.3)
        train(plain, few, TrainingConfig(epochs=2), seed=0)
        augmentation = AugmentationConfig(crop=0, flip=False, cutout=0)
        train(nothing, few, TrainingConfig(epochs=2, augmentation=augmentation), seed=0)
        assert same_weights(plain, nothing)

    @pytest.mark.parametrize("kind", [{"crop": 1}, {"flip": True}, {"cutout": 2}])
    def test_changes_the_images_and_not_their_order(self, kind, few) -> None:
        batches = {}

        def watch(name):
            def loss(inputs, logits, labels):
                batches.setdefault(name, []).append((inputs.clone(), labels))
                return nn.functional.cross_entropy(logits, labels)

            return loss

        for name, augmentation in {"plain": AugmentationConfig(), "changed": AugmentationConfig(**kind)}.items():
            config = TrainingConfig(epochs=2, augmentation=augmentation)
            train(network(), few, config, seed=0, loss=watch(name))
        for (images, labels), (others, same) in zip(batches["plain"], batches["changed"], strict=True):
            assert torch.equal(labels, same)
            assert not torch.equal(images, others)


class TestAccumulate:
    @staticmethod
    def gradients(few: Split, parts: int, loss=None) -> tuple[Epoch, list[torch.Tensor]]:
        """Of one batch of 50 images, in double precision and without batch norm."""
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10)).double()
        data = Split(few.examples[:50].double(), few.targets[:50])
        config = TrainingConfig(epochs=1, batch_size=50)
        training = Training(model, data, config, seed=0, accumulate=parts, loss=loss)
        return training.run_epoch(), [parameter.grad for parameter in model.parameters()]

    @pytest.mark.parametrize("parts", [2, 3, 7, 50, 80])  # of 50 images: also parts that are not equally large
    def test_gradients_add_up_to_those_of_the_batch(self, parts, few) -> None:
        whole, expected = self.gradients(few, 1)
        done, gradients = self.gradients(few, parts)
        assert done.loss == pytest.approx(whole.loss, rel=1e-12)
        assert done.accuracy_pct == whole.accuracy_pct
        for reference, gradient in zip(expected, gradients, strict=True):
            assert reference.abs().max() > 1e-3
            assert torch.allclose(reference, gradient, rtol=1e-9, atol=1e-12)

    def test_the_loss_gets_one_part_at_a_time(self, few) -> None:
        sizes = []

        def loss(inputs, logits, labels):
            assert len(inputs) == len(logits) == len(labels)
            sizes.append(len(inputs))
            return nn.functional.cross_entropy(logits, labels)

        self.gradients(few, 3, loss)
        assert sizes == [17, 17, 16]

    def test_augmentation_does_not_depend_on_it(self, few) -> None:
        batches = []

        def loss(inputs, logits, labels):
            batches.append(inputs.clone())
            return nn.functional.cross_entropy(logits, labels)

        config = TrainingConfig(epochs=1, augmentation=AUGMENTED)
        for parts in (1, 4):
            train(network(), few, config, seed=0, loss=loss, accumulate=parts)
        assert torch.equal(torch.cat(batches[:3]), torch.cat(batches[3:]))

    def test_learns_digits(self, digits) -> None:
        model = network()
        train(model, digits.train, TrainingConfig(epochs=5, learning_rate=0.005), seed=0, accumulate=4)
        check_above("accuracy", judge(model, digits.val).accuracy_pct, mean=94.72, sd=1.5)

    def test_of_none(self, few) -> None:
        with pytest.raises(ValueError, match="accumulate=0 must be 1 or more"):
            Training(network(), few, TrainingConfig(), seed=0, accumulate=0)


class TestPrecision:
    def test_bf16_learns_digits(self, digits) -> None:
        model = network()
        kinds = set()
        model[3].register_forward_hook(lambda module, inputs, output: kinds.add(output.dtype))
        train(model, digits.train, TrainingConfig(epochs=5, learning_rate=0.005, precision="bf16"), seed=0)
        assert kinds == {torch.bfloat16}
        assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
        check_above("accuracy", judge(model, digits.val).accuracy_pct, mean=94.74, sd=1.4)

    def test_the_loss_is_computed_in_fp32(self, few) -> None:
        def loss(inputs, logits, labels):
            assert logits.dtype == torch.float32
            assert (logits @ logits.T).dtype == torch.float32
            return nn.functional.cross_entropy(logits, labels)

        train(network(), few, TrainingConfig(epochs=1, precision="bf16"), seed=0, loss=loss)

    def test_auto_is_fp32_on_a_cpu(self, few) -> None:
        models = [network(), network()]
        for model, precision in zip(models, ("auto", "fp32"), strict=True):
            train(model, few, TrainingConfig(epochs=1, precision=precision), seed=0)
        assert same_weights(*models)

    @pytest.mark.parametrize(
        ("precision", "device", "expected"),
        [
            ("auto", "cpu", None),
            ("auto", "cuda", torch.bfloat16),
            ("fp32", "cuda", None),
            ("bf16", "cpu", torch.bfloat16),
            ("fp16", "cuda:1", torch.float16),
        ],
    )
    def test_types(self, precision, device, expected) -> None:
        assert autocast_type(precision, torch.device(device)) == expected

    def test_fp16_on_a_cpu_is_refused(self, few) -> None:
        with pytest.raises(UserError, match=r"^training\.precision fp16 needs a GPU; use bf16 or fp32 on a CPU\.$"):
            train(network(), few, TrainingConfig(precision="fp16"), seed=0)

    def test_another_device_is_refused(self, few) -> None:
        with pytest.raises(UserError, match="cpu or cuda, not on 'meta'"):
            train(network(), few, TrainingConfig(), seed=0, device="meta")


class TestScaledLoss:
    """The path of fp16, on a CPU, where it is refused only for being slow; so the refusal is taken away."""

    @pytest.fixture(autouse=True)
    def _allowed(self, monkeypatch) -> None:
        monkeypatch.setattr("nasbench.training.training.autocast_type", lambda precision, device: torch.float16)

    def test_learns_digits(self, digits) -> None:
        model = network()
        train(model, digits.train, TrainingConfig(epochs=5, learning_rate=0.005, precision="fp16"), seed=0)
        check_above("accuracy", judge(model, digits.val).accuracy_pct, mean=94.79, sd=1.4)

    @staticmethod
    def overflowing(few: Split) -> Training:
        """Gradients of the scaled loss overflow at first, as the loss is a thousandfold."""
        return Training(
            network(dropout=0.3),
            few,
            TrainingConfig(epochs=4, precision="fp16"),
            seed=0,
            loss=lambda inputs, logits, labels: 1e3 * nn.functional.cross_entropy(logits, labels),
        )

    def test_a_step_that_overflows_is_left_out(self, few) -> None:
        training = self.overflowing(few)
        before = training.state_dict()["scaler.scale"]
        done = training.run_epoch()
        assert 0 < done.loss < 1e4
        state = training.state_dict()
        assert state["scaler.scale"] < before
        assert state.get("optimizer.0.weight.step", 0) < 3  # of three batches
        assert all(value.isfinite().all() for value in state.values())

    def test_resumes_to_the_bit(self, few) -> None:
        whole, first, second = (self.overflowing(few) for _ in range(3))
        expected = run(whole)
        before = first.run_epoch()
        second.load_state_dict(first.state_dict())
        assert [before, *run(second)] == expected
        final, resumed = whole.state_dict(), second.state_dict()
        assert all(torch.equal(final[name], resumed[name]) for name in final)

    def test_a_loss_that_is_not_finite_is_divergence(self, few) -> None:
        with pytest.raises(Diverged, match="the loss became inf in epoch 1 of 1"):
            train(network(), few, TrainingConfig(epochs=1), seed=0, loss=lambda *_: _[1].sum() * torch.inf + torch.inf)


class TestCompile:
    @pytest.fixture
    def compiled(self, monkeypatch) -> list[nn.Module]:
        """What was compiled; the graph is run as it is, so that this needs no C++ compiler and takes no minute."""
        graphs = []

        def backend(graph, inputs):
            graphs.append(graph)
            return graph.forward

        monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))
        return graphs

    def test_the_model_stays_the_plain_one(self, compiled, few) -> None:
        plain, model = network(dropout=0.3), network(dropout=0.3)
        train(plain, few, TrainingConfig(epochs=2), seed=0)
        training = Training(model, few, TrainingConfig(epochs=2, compile=True), seed=0)
        run(training)
        assert compiled
        assert training.finish() is model
        assert model.state_dict().keys() == plain.state_dict().keys()
        assert all(torch.allclose(model.state_dict()[name], value) for name, value in plain.state_dict().items())

    def test_every_network_of_a_process_is_compiled(self, compiled, few) -> None:
        for depth in range(1, 11):  # torch gives up on the ninth, if nobody clears what it keeps
            layers = [layer for _ in range(depth) for layer in (nn.Linear(64, 64), nn.ReLU())]
            before = len(compiled)
            train(nn.Sequential(nn.Flatten(), *layers), few, TrainingConfig(epochs=1, compile=True), seed=0)
            assert len(compiled) > before, depth

    def test_that_fails_is_not_hidden(self, monkeypatch, few) -> None:
        def backend(graph, inputs):
            raise FileNotFoundError("no compiler")

        monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))
        with pytest.raises(Exception, match="no compiler"):
            train(network(), few, TrainingConfig(epochs=1, compile=True), seed=0)

    @pytest.mark.slow
    @pytest.mark.skipif(
        not (os.environ.get("CI") or shutil.which("g++") or shutil.which("clang++")), reason="needs a C++ compiler"
    )
    def test_compiled_in_earnest(self, digits, few, tmp_path) -> None:
        whole, first = (resumable(few, compile=True, epochs=2) for _ in range(2))
        expected = run(whole)
        before = first.run_epoch()
        save_file(first.state_dict(), tmp_path / "state.safetensors")
        second = resumable(few, weights=1, compile=True, epochs=2)
        second.load_state_dict(load_file(tmp_path / "state.safetensors"))
        assert [before, *run(second)] == expected
        assert same_weights(second.finish(), whole.finish())
        model = network()
        train(model, digits.train, TrainingConfig(epochs=5, learning_rate=0.005, compile=True), seed=0)
        check_above(
            "accuracy", judge(model, digits.val).accuracy_pct, mean=94.72, sd=1.5
        )  # the spread without compiling


class TestChance:
    config = TrainingConfig(epochs=8, chance_epochs=3)

    @pytest.fixture
    def nonsense(self, few) -> Split:
        """Labels that have nothing to do with the images."""
        return Split(few.examples, torch.arange(200) % 10)

    @staticmethod
    def kill(model: nn.Module) -> nn.Module:
        """Only logits of zero, through which no gradient comes back."""
        for parameter in model[-1].parameters():
            nn.init.zeros_(parameter)
            parameter.requires_grad_(False)
        return model

    def test_a_network_that_learns_nothing(self, nonsense) -> None:
        training = Training(self.kill(network()), nonsense, self.config, seed=0)
        training.run_epoch()
        training.run_epoch()
        words = (
            r"^training accuracy was no better than guessing for 3 epochs in a row \([\d.]+ % in epoch 3 of 8, and "
            r"the most frequent label is 10\.0 % of the images\); lower the learning rate, or raise "
            r"training\.chance_epochs$"
        )
        with pytest.raises(Diverged, match=words):
            training.run_epoch()

    def test_a_learning_rate_that_kills_the_network(self, digits) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            hidden = [layer for _ in range(2) for layer in (nn.Linear(64, 64), nn.ReLU())]
            model = nn.Sequential(nn.Flatten(), *hidden, nn.Linear(64, 10))
        config = TrainingConfig(epochs=12, learning_rate=10, chance_epochs=3)
        with pytest.raises(Diverged, match="no better than guessing for 3 epochs in a row"):
            train(model, digits.train, config, seed=0)

    def test_the_count_survives_a_resume(self, nonsense) -> None:
        first, second = (Training(self.kill(network()), nonsense, self.config, seed=0) for _ in range(2))
        first.run_epoch()
        first.run_epoch()
        second.load_state_dict(first.state_dict())
        with pytest.raises(Diverged, match="3 epochs in a row"):
            second.run_epoch()

    def test_a_better_epoch_starts_the_count_again(self, few) -> None:
        training = Training(self.kill(network()), few, self.config, seed=0)
        training.run_epoch()
        training.run_epoch()
        training.model.load_state_dict(network().state_dict())
        trained = network()
        train(trained, few, TrainingConfig(epochs=8, learning_rate=0.01), seed=0)
        training.model.load_state_dict(trained.state_dict())
        check_above("training accuracy", training.run_epoch().accuracy_pct, mean=93.78, sd=1.8, least=20)
        self.kill(training.model)
        training.run_epoch()
        training.run_epoch()
        with pytest.raises(Diverged, match=r"3 epochs in a row .* in epoch 6 of 8"):
            training.run_epoch()

    def test_a_healthy_network_is_left_alone(self, digits) -> None:
        config = TrainingConfig(epochs=3, learning_rate=0.005, chance_epochs=1)
        assert train(network(), digits.train, config, seed=0) == 3

    def test_null_never_says_so(self, nonsense) -> None:
        config = TrainingConfig(epochs=8, chance_epochs=None)
        assert train(self.kill(network()), nonsense, config, seed=0) == 8

    def test_not_with_a_loss_of_ones_own(self, nonsense) -> None:
        def loss(inputs, logits, labels):
            return nn.functional.cross_entropy(logits, labels)

        assert train(self.kill(network()), nonsense, self.config, seed=0, loss=loss) == 8

    def test_images_of_one_class(self, few) -> None:
        for classes in (1, 10):
            model = nn.Sequential(nn.Flatten(), nn.Linear(64, classes))
            alike = Split(few.examples, torch.zeros(200, dtype=torch.int64))
            assert train(model, alike, self.config, seed=0) == 8

    def test_what_guessing_explains(self) -> None:
        ten = Guessing.of(torch.arange(1000) % 10, images=900)  # 10 % and two deviations of 1 %
        assert ten == Guessing(0.1, 900)
        assert [ten.explains(pct) for pct in (0.0, 10.0, 11.9, 12.1, 100.0)] == [True, True, True, False, False]
        assert not Guessing(1.0, 100).explains(100.0)
        assert not Guessing(0.99, 20).explains(100.0)  # nobody could do better


class TestDeadline:
    @pytest.fixture
    def clock(self, monkeypatch) -> SimpleNamespace:
        """A clock of five seconds a batch."""
        clock = SimpleNamespace(now=1000.0)
        monkeypatch.setattr("nasbench.training.training.time", SimpleNamespace(monotonic=lambda: clock.now))
        return clock

    @staticmethod
    def loss(clock):
        def slow(inputs, logits, labels):
            clock.now += 5
            return nn.functional.cross_entropy(logits, labels)

        return slow

    def test_ends_it_after_the_batch(self, clock, few) -> None:
        config = TrainingConfig(epochs=12, batch_size=40)
        state = torch.get_rng_state()
        with pytest.raises(TimedOut, match=r"^time was up in epoch 3 of 12 after 65 s of training$"):
            train(network(dropout=0.3), few, config, seed=0, loss=self.loss(clock), deadline=1061)
        assert torch.equal(torch.get_rng_state(), state)

    def test_that_is_met(self, clock, few) -> None:
        config = TrainingConfig(epochs=12, batch_size=40)
        assert train(network(), few, config, seed=0, loss=self.loss(clock), deadline=1300) == 12

    def test_that_is_over_already(self, few) -> None:
        with pytest.raises(TimedOut, match=r"epoch 1 of 2 after \d+ s"):
            train(network(), few, TrainingConfig(epochs=2), seed=0, deadline=time.monotonic() - 1)


@pytest.mark.only_where(torch.cuda.is_available())
class TestGpu:
    @pytest.mark.parametrize("precision", ["auto", "fp32", "bf16", "fp16"])
    def test_learns_digits(self, precision, digits) -> None:
        model = network()
        config = TrainingConfig(epochs=5, learning_rate=0.005, precision=precision)
        training = Training(model, digits.train, config, seed=0, device="cuda")
        run(training)
        accuracy_pct = judge(model.eval(), digits.val).accuracy_pct
        check_above("accuracy", accuracy_pct, mean=94.74, sd=1.4, least=80)  # the spread is that of bf16 on a CPU
        training.finish()
        assert {parameter.device.type for parameter in model.parameters()} == {"cpu"}
        assert judge(model, digits.val).accuracy_pct == pytest.approx(accuracy_pct, abs=2)

    @pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
    def test_resumes_to_the_bit(self, precision, few) -> None:
        def training(weights: int = 0) -> Training:
            # Without adaptive pooling, whose gradient adds up in no certain order.
            with torch.random.fork_rng():
                torch.manual_seed(weights)
                model = nn.Sequential(
                    nn.Conv2d(1, 16, 3),
                    nn.BatchNorm2d(16),
                    nn.ReLU(),
                    nn.Flatten(),
                    nn.Dropout(0.3),
                    nn.Linear(576, 10),
                )
            config = TrainingConfig(epochs=4, precision=precision, augmentation=AUGMENTED)
            return Training(model, few, config, seed=0, device="cuda")

        state = torch.cuda.get_rng_state()
        whole, first, second = training(), training(), training(1)
        expected = run(whole)
        before = first.run_epoch()
        second.load_state_dict(first.state_dict())
        assert [before, *run(second)] == expected
        assert same_weights(second.finish(), whole.finish())
        assert torch.equal(torch.cuda.get_rng_state(), state)

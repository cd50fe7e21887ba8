"""Training: that networks learn, that the seed decides everything, and when it stops."""

import copy
import itertools

import pytest
import torch
from torch import nn

from nasbench.config.experiment import TrainingConfig
from nasbench.data import ImageData, Split, load_data
from nasbench.training import Diverged, score, train
from nasbench.training.loop import _warm_cosine


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return load_data("digits")


@pytest.fixture(scope="module")
def few(digits) -> Split:
    """200 images, for what needs no accuracy."""
    return Split(digits.train.images[:200], digits.train.labels[:200])


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
    before = score(model.eval(), digits.val)
    losses = []
    config = TrainingConfig(epochs=5, optimizer=optimizer, learning_rate=learning_rate)
    epochs = train(model, digits.train, config, seed=0, on_epoch=lambda _, loss: losses.append(loss) is None)
    after = score(model, digits.val)
    assert epochs == len(losses) == 5
    assert before.accuracy_pct < 40
    assert after.accuracy_pct > 93
    assert after.loss < before.loss
    assert losses[-1] < losses[0] / 3
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
        images = few.images.clone()
        images[7] = torch.nan
        with pytest.raises(Diverged, match="the loss became nan in epoch 1 of 2"):
            train(network(), Split(images, few.labels), TrainingConfig(epochs=2), seed=0)

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
            score(lambda images: torch.full((len(images), 10), torch.nan), few)


class TestLoss:
    def test_gets_inputs_logits_and_labels_of_the_same_images(self, few) -> None:
        known = {image.numpy().tobytes(): int(label) for image, label in zip(few.images, few.labels, strict=True)}
        seen = []

        def loss(inputs, logits, labels):
            assert inputs.shape == (50, 1, 8, 8)
            assert logits.shape == (50, 10)
            assert logits.requires_grad
            assert [known[image.numpy().tobytes()] for image in inputs] == labels.tolist()
            seen.append(len(labels))
            return nn.functional.cross_entropy(logits, labels)

        train(network(), few, TrainingConfig(epochs=2, batch_size=50), seed=0, loss=loss)
        assert seen == [50] * 8

    def test_is_what_the_network_is_trained_on(self, digits) -> None:
        model = network()

        def shifted(inputs, logits, labels):
            return nn.functional.cross_entropy(logits, (labels + 1) % 10)

        train(model, digits.train, TrainingConfig(epochs=3, learning_rate=0.005), seed=0, loss=shifted)
        assert score(model, digits.val).accuracy_pct < 5
        assert score(model, Split(digits.val.images, (digits.val.labels + 1) % 10)).accuracy_pct > 85

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
                confidence.append(model(digits.train.images).softmax(1).amax(1).mean().item())
        assert confidence[1] < confidence[0] - 0.1


class TestEpochs:
    def test_every_image_once_an_epoch(self, few) -> None:
        seen = []

        def loss(inputs, logits, labels):
            seen.extend(image.numpy().tobytes() for image in inputs)
            return nn.functional.cross_entropy(logits, labels)

        train(network(), few, TrainingConfig(epochs=2, batch_size=40), seed=0, loss=loss)
        everything = sorted(image.numpy().tobytes() for image in few.images)
        assert sorted(seen[:200]) == sorted(seen[200:]) == everything
        assert seen[:200] != seen[200:]

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
        model, other = network(), network()
        assert train(model, few, TrainingConfig(epochs=9), seed=0, epochs=1, learning_rate=0.01) == 1
        assert train(other, few, TrainingConfig(epochs=1, learning_rate=0.01), seed=0) == 1
        assert same_weights(model, other)

    def test_none_at_all(self, few) -> None:
        model = network()
        assert train(model, few, TrainingConfig(), seed=0, epochs=0) == 0
        assert same_weights(model, network())
        assert not model.training

    def test_fewer_images_than_a_batch(self, few) -> None:
        model = network()
        assert train(model, Split(few.images[:20], few.labels[:20]), TrainingConfig(epochs=1), seed=0) == 1
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
    factor = _warm_cosine(batches, epochs, warmup)
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
    assert _warm_cosine(10, 10, 0.0)(0) == 1


class TestScore:
    split = Split(torch.arange(5.0).reshape(5, 1, 1, 1), torch.tensor([0, 1, 2, 0, 1]))

    @staticmethod
    def predict(images):
        """Says class 0 to image 0, 1 to 1, 2 to 2, 1 to 3 and 1 to 4: four of five are right."""
        answers = torch.tensor([0, 1, 2, 1, 1])[images.flatten().long()]
        return nn.functional.one_hot(answers, 3).float()

    @pytest.mark.parametrize("batch_size", [1, 2, 5, 512])
    def test_a_predictor_made_by_hand(self, batch_size) -> None:
        result = score(self.predict, self.split, batch_size)
        assert result.accuracy_pct == 80
        # -log softmax of the label's logit: 1 where it is right, 0 where it is wrong, beside two zeros or a 1 and a 0
        right, wrong = torch.log(1 + 2 * torch.exp(torch.tensor(-1.0))), torch.log(torch.exp(torch.tensor(1.0)) + 2)
        assert result.loss == pytest.approx((4 * right + wrong).item() / 5, rel=1e-6)

    def test_needs_no_gradient_and_changes_nothing(self, few) -> None:
        model = network().eval()
        score(model, few)
        assert same_weights(model, network())
        assert all(parameter.grad is None for parameter in model.parameters())

"""The core of the search spaces, and what check_space finds in faulty ones."""

import numpy as np
import pytest
from torch import nn

from nasbench_registry import UserError
from search_spaces import Decision, NoValidArchitecture, SearchSpace, Task, check_space, get_space
from search_spaces.core import Architecture


class Good(SearchSpace):
    name = "good"
    decisions = (Decision("depth", (1, 2, 3)), Decision("width", (8, 16)), Decision("norm", ("batch", "none")))

    def build(self, arch, task):
        choice, layers, channels = self.choices(arch), [], task.input_shape[0]
        for _ in range(choice["depth"]):
            layers += [nn.Conv2d(channels, choice["width"], 3, padding=1), nn.ReLU()]
            channels = choice["width"]
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, task.classes))


def test_a_small_space_is_complete():
    space = Good()
    assert check_space(space) == []
    assert space.size == 12
    arch = space.architecture((1, 0, 1))
    assert space.format(arch) == "depth=2,width=8,norm=none"
    assert space.parse("depth=2,width=8,norm=none") == arch
    assert space.one_hot([arch]).tolist() == [[0, 1, 0, 1, 0, 0, 1]]


def test_parse_names_the_nearest_option():
    with pytest.raises(UserError, match="Did you mean 'batch'"):
        Good().parse("depth=2,width=8,norm=bach")


def faulty(**members):
    return type("Faulty", (Good,), members)()


def shared_network(self, arch, task):
    return nn.Linear(3, task.classes)


def wrong_shape(self, arch, task):
    return nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(task.input_shape)), task.classes + 1))


def no_parameters(self, arch, task):
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.ConstantPad1d((0, task.classes - 3), 0.0))


def global_random(self, rng, max_tries=10):
    return Architecture(self.name, tuple(int(np.random.randint(len(d.options))) for d in self.decisions))


def two_mutations(self, arch, rng, max_tries=10):
    return Architecture(self.name, ((arch.picks[0] + 1) % 3, 1 - arch.picks[1], arch.picks[2]))


@pytest.mark.parametrize(
    ("members", "finding"),
    [
        ({"build": shared_network}, "networks: RuntimeError"),
        ({"build": wrong_shape}, "it must give (4, 10)"),
        ({"build": no_parameters}, "no parameter that learns"),
        ({"build": lambda self, arch, task: "net"}, "build() returned str"),
        ({"sample": global_random}, "other architectures for the same seed"),
        ({"mutate": two_mutations}, "mutate() changed 2 decisions"),
        ({"canonical": lambda self, arch: Architecture("good", (2, 1, 1 - arch.picks[2]))}, "not idempotent"),
        ({"format": lambda self, arch: "depth=1,width=8,norm=none"}, "is another network"),
        ({"one_hot": lambda self, archs: np.zeros((len(archs), 3))}, "the same row"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_check_space_says_what_is_wrong(members, finding):
    problems = check_space(faulty(**members))
    assert any(finding in problem for problem in problems), problems


def test_sampling_an_empty_space_ends():
    with pytest.raises(NoValidArchitecture, match="in 1000 draws"):
        faulty(is_valid=lambda self, arch: False).sample(np.random.default_rng(0))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Decision("a", ()), "has no options"),
        (lambda: Decision("a", (1, 1)), "repeats an option"),
        (lambda: Decision("a", (object(),)), "not a JSON value"),
        (lambda: Task((3, 32), 10), "not .channels, height, width."),
        (lambda: Task((3, 32, 32), 1), "at least 2"),
        (lambda: get_space("mobile", kernels=(4,)), "must be odd"),
        (lambda: get_space("mobile", blocks=("convolutoin",)), "Did you mean 'convolution'"),
        (lambda: get_space("nasbench201", cells=0), "must both be 1 or more"),
        (lambda: get_space("search_spaces.mobile:Mobil"), "Did you mean 'Mobile'"),
        (lambda: get_space("no_such_module:Space"), "there is no module 'no_such_module'"),
        (lambda: get_space("search_spaces.core:Decision"), "not a subclass"),
        (lambda: get_space("search_spaces.core:SearchSpace"), "does not define build"),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(UserError, match=message):
        make()

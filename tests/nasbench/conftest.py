"""Small experiments on real images."""

import textwrap

import pytest
import yaml
from tests_support import experiment_of

from nasbench.config import parse_experiment

TINY_SPACE = """
from torch import nn

from search_spaces import Decision, SearchSpace


class Tiny(SearchSpace):
    name = "tiny"
    decisions = (Decision("depth", (1, 2, 3)), Decision("width", (8, 16, 32)), Decision("kernel", (1, 3, 5)))

    def build(self, arch, task):
        choice, layers, channels = self.choices(arch), [], task.input_shape[0]
        for _ in range(choice["depth"]):
            kernel = choice["kernel"]
            layers += [nn.Conv2d(channels, choice["width"], kernel, padding=kernel // 2), nn.ReLU()]
            channels = choice["width"]
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * channels, task.classes))
"""


@pytest.fixture
def small():
    return lambda **changes: parse_experiment(experiment_of(**changes))


@pytest.fixture
def write(tmp_path):
    """Write an experiment file of a small search."""

    def make(name="small.yaml", **changes):
        path = tmp_path / name
        path.write_text(yaml.safe_dump(experiment_of(**changes)))
        return path

    return make


@pytest.fixture
def user_folder(tmp_path):
    """A folder outside of the repository with a space of 20 lines."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "my_space.py").write_text(textwrap.dedent(TINY_SPACE))
    return folder

"""What an experiment searches: architectures, or architectures together with recipes."""

from __future__ import annotations

import functools
import json

from nasbench.config import Experiment
from nasbench.joint.recipe_space import RecipeSpace, has_choice
from search_spaces import Architecture, SearchSpace, get_space
from search_spaces.product import ProductSpace


class JointSpace(ProductSpace):
    """Architectures of a space, each with a recipe.

    Args:
        network: the space of architectures.
        recipes: the space of recipes.
    """

    summary = "architectures, each with a recipe"

    def __init__(self, network: SearchSpace, recipes: RecipeSpace) -> None:
        super().__init__(network, recipes)
        self.recipes = recipes

    def halves(self, arch: Architecture) -> tuple[Architecture, Architecture]:
        """The architecture, as the representative of all that build its network, and the point of the recipes."""
        network, recipe = self.split(arch)
        return self.network.canonical(network), recipe


def experiment_space(experiment: Experiment) -> SearchSpace:
    """The space that an experiment searches: a `JointSpace` if its recipe leaves something to choose.

    Raises:
        UserError: a name, an option or a choice is wrong.
    """
    return _space(experiment.space.model_dump_json(), json.dumps(experiment.recipe))


@functools.lru_cache(maxsize=8)  # a worker asks for the same one again and again, and it remembers its recipes
def _space(space: str, recipe: str) -> SearchSpace:
    named = json.loads(space)
    network = get_space(named.pop("name"), **named)
    entries = json.loads(recipe)
    return JointSpace(network, RecipeSpace(entries)) if has_choice(entries) else network


def network_space(space: SearchSpace) -> SearchSpace:
    """The space of the architectures alone."""
    return space.network if isinstance(space, JointSpace) else space

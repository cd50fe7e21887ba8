"""Architectures together with recipes."""

from __future__ import annotations

import contextlib

import numpy as np

from nasbench.evaluators.compressed.recipe_space import RecipeSpace
from search_spaces import Architecture, NoValidArchitecture, SearchSpace
from search_spaces.core import MAX_TRIES
from search_spaces.product import ProductSpace

SAME_NETWORK = 0.75  # of mutations and of crossovers: another recipe for a network that is trained already


class JointSpace(ProductSpace):
    """Architectures of a space, each with a recipe.

    Another recipe for a network that is trained already costs a fraction of another network. So three of four mutations
    change one decision of the recipe, the fourth one of the network; and in three of four crossovers the network of one
    parent gets the recipe of the other, in the fourth every decision is from one of both.

    Args:
        network: Search space of networks.
        recipes: Search space of recipes.
    """

    summary = "architectures, each with a recipe"

    def __init__(self, network: SearchSpace, recipes: RecipeSpace) -> None:
        super().__init__(network, recipes)
        self.recipes = recipes

    def halves(self, arch: Architecture) -> tuple[Architecture, Architecture]:
        """The architecture, as the representative of all that build its network, and the point of the recipes."""
        network, recipe = self.split(arch)
        return self.network.canonical(network), recipe

    def mutate(self, arch: Architecture, rng: np.random.Generator, max_tries: int = MAX_TRIES) -> Architecture:
        """A valid point in which exactly one decision, of the network or of the recipe, takes another option."""
        halves = list(self.split(arch))
        network, recipe = 0, 1
        order = (recipe, network) if rng.random() < SAME_NETWORK else (network, recipe)
        for index in order:
            with contextlib.suppress(NoValidArchitecture):
                halves[index] = self.factors[index].mutate(halves[index], rng)
                return self.join(halves)
        raise NoValidArchitecture(f"space {self.name!r} has a single point; there is nothing to mutate.")

    def crossover(
        self, a: Architecture, b: Architecture, rng: np.random.Generator, max_tries: int = MAX_TRIES
    ) -> Architecture:
        """The network of one parent with the recipe of the other, or every decision from one of both."""
        if rng.random() >= SAME_NETWORK:
            return super().crossover(a, b, rng, max_tries)
        first, second = (a, b) if rng.random() < 0.5 else (b, a)
        return self.join([self.split(first)[0], self.split(second)[1]])

"""What `bench` measures: recipes with their budgets and batches, and networks that are at hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import torch

from invertkit.core.network import Model
from invertkit.core.precision import Precision
from invertkit.core.recording.replay import Compile
from invertkit.core.suggestions import did_you_mean
from invertkit.errors import InputError, WeightsError
from invertkit.models.loading import hub
from invertkit.recipe.build import as_model, build_model, model_node, signature_model
from invertkit.recipe.overlay import choose, read_raw, recipe_names
from invertkit.recipe.registry import Registry
from invertkit.runs.job import Job
from invertkit.runs.prepare import prepare_job

FIRST: Final = "magic"


@final
@dataclass(frozen=True, eq=False)
class BenchCase:
    """One line of the table.

    Args:
        recipe: Its name.
        budget: Of the recipe; empty where it has but one.
        batch: Images side by side.
        usual: Whether it is what a run on this device takes without being asked.
        job: What to run.
    """

    recipe: str
    budget: str
    batch: int
    usual: bool
    job: Job


def cases(
    recipes: Sequence[str | Path],
    *,
    budget: str | None,
    batches: Sequence[int],
    device: torch.device,
    precision: Precision,
    compile: Compile,
) -> list[BenchCase]:
    """Every case, recipe by recipe, each page checked; on a CPU images go one by one.

    Args:
        recipes: Names or paths; if empty all that the package carries, `magic` first.
        budget: Only this one, of recipes that have several.
        batches: Numbers of images.
        device: Where.
        precision: Of the networks.
        compile: How steps are replayed.

    Raises:
        RecipeError: A page is not there or wrong, or lacks the budget.
        InputError: No recipe has the budget.
    """
    names = list(recipes) or sorted(recipe_names(), key=lambda name: name != FIRST)
    options = {str(name): _budgets(name) for name in names}
    known = sorted({option for some in options.values() for option in some})
    if budget is not None and budget not in known:
        hint = did_you_mean(budget, known)
        raise InputError(
            f"budget: no recipe here has {budget!r}; there are {', '.join(known) or 'none'}.{hint}"
        )
    sizes = [1] if device.type == "cpu" else list(dict.fromkeys(batches))
    planned = []
    for name in names:
        several: list[str | None] = [*options[str(name)]]
        wanted = [budget] if budget and several else several or [None]
        for option in wanted:
            job = prepare_job(
                name,
                device=str(device),
                choices={"budget": option} if option else {},
                precision=precision,
                compile=compile,
            )
            usual = _usual(name, device) if option else option
            planned += _of_sizes(job, option or "", sizes, usual=usual == option)
    return planned


def _of_sizes(job: Job, budget: str, sizes: Sequence[int], *, usual: bool) -> list[BenchCase]:
    """A job with each number of images."""
    return [BenchCase(job.page.name, budget, size, usual, job.using(seeds=size)) for size in sizes]


def _budgets(recipe: str | Path) -> list[str]:
    choices = read_raw(recipe).get("choices")
    choice = choices.get("budget") if isinstance(choices, dict) else None
    options = choice.get("options") if isinstance(choice, dict) else None
    return [str(option) for option in options] if isinstance(options, dict) else []


def _usual(recipe: str | Path, device: torch.device) -> Any:
    return choose(read_raw(recipe), {}, device=device.type)["chosen"]["budget"]


@final
@dataclass(frozen=True)
class Networks:
    """The networks of a page.

    Args:
        models: By name.
        random: Those with random weights, and why theirs are not at hand.
    """

    models: Mapping[str, Model]
    random: Mapping[str, str]

    def described(self) -> dict[str, str]:
        """What each says it is."""
        return {name: model.description for name, model in self.models.items()}


def networks_at_hand(job: Job) -> Networks:
    """The page's networks without touching the network: where weights lack, with random ones.

    Raises:
        RecipeError: A model is unknown or wrong.
        WeightsError: Weights lack, and the network cannot be built without them.
    """
    models = {name: as_model(network, name) for name, network in job.settings.models.items()}
    random: dict[str, str] = {}
    with hub.off_the_network():
        for name, node in job.page.models.items():
            if name in models:
                continue
            try:
                models[name] = build_model(node, name, job.registry)
            except WeightsError as error:
                drawn = _without_weights(model_node(node, job.registry), job.registry)
                if drawn is None:
                    raise
                models[name] = build_model(drawn, name, job.registry)
                random[name] = str(error)
    return Networks(models, random)


def _without_weights(node: Mapping[str, Any], registry: Registry) -> dict[str, Any] | None:
    """The same network with random weights; None for a part that has no such option."""
    make = registry.load("model", node["type"])
    if "pretrained" not in signature_model(make).model_fields:
        return None
    others = {key: value for key, value in node.items() if key != "weights"}
    return {**others, "pretrained": False}

"""From a recipe's name and the user's inputs to a job."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch

from invertkit.core.devices import pick_device
from invertkit.core.images.demo import demonstration
from invertkit.core.images.inputs import Inputs, load_inputs
from invertkit.core.modes import recordable
from invertkit.core.suggestions import conjoined, did_you_mean, listed
from invertkit.errors import InputError, RecipeError
from invertkit.recipe.overlay import RecipeLike, choose, flatten, override, read_layers
from invertkit.recipe.page import Node, Page, validate
from invertkit.recipe.yaml_text import naming_lines
from invertkit.runs.collection import Photographs, load_each
from invertkit.runs.job import Job
from invertkit.runs.objects import checked, laid_on, registry_of
from invertkit.runs.settings import Settings, is_argument, settings_and_inputs
from invertkit.runs.stage_masks import check_masks


def prepare_job(
    recipe: RecipeLike,
    *,
    photographs: Photographs | None = None,
    **given: Any,
) -> Job:
    """Read, choose, override and check a recipe, and load its inputs.

    Args:
        recipe: Name of a recipe, the path of a page, or a page as a mapping.
        photographs: Many, for `run_each`, instead of inputs.
        **given: The fields of `Settings`, and the recipe's inputs by name; for many photographs
            what the file of each input is called.

    Raises:
        InvertkitError: Anything the caller can mend, in one sentence.
    """
    settings, inputs = settings_and_inputs(given)
    settings = replace(checked(settings), device=str(pick_device(settings.device)))
    registry = registry_of(settings)
    page, raw, text, sentences = _read(recipe, settings)
    _check_known(inputs, page)
    if photographs is not None:
        loaded = load_each(photographs, page.specs, inputs, recipe=page.name)
        sentences.append(
            f"{len(loaded)} photographs: {listed([each.name for each in loaded], most=8)}."
        )
        if page.finish is not None:
            sentences.append("Many photographs are projected; `finish` is for one of them.")
    else:
        loaded = (_loaded(page, inputs, sentences),)
    loaded = tuple(each.map(recordable) for each in loaded)
    for each in loaded:
        check_masks(each, page)
    return Job(
        page=page,
        raw=raw,
        photographs=loaded,
        settings=settings,
        registry=registry,
        sentences=tuple(sentences),
        text=text,
    )


def _read(recipe: RecipeLike, settings: Settings) -> tuple[Page, Node, str | None, list[str]]:
    """The page, checked and as data; the text of the user's own; and what to tell of it."""
    layers = read_layers(recipe)
    raw = flatten(layers)
    notes: Mapping[str, str] = raw.get("notes") or {}
    choices = raw.get("choices") or {}
    text, device = _own_text(recipe), torch.device(settings.device)
    # Lines are told of the page as it was written; overrides and objects have none.
    with naming_lines(text, raw):
        raw = choose(layers, settings.options, device=device.type)
    raw, replaced = laid_on(override(raw, list(settings.overrides)), settings)
    with naming_lines(text, raw):
        page = validate(raw)
    _check_free(page)
    about = _about_choices(page, notes, choices, settings.options, device)
    return page, raw, text, [*about, *replaced]


def _check_free(page: Page) -> None:
    """Whether every input can be given by its name."""
    for name in page.specs:
        if is_argument(name):
            raise RecipeError(
                f"inputs.{name}: is an argument of every run, so an input cannot be given by this "
                "name; choose another."
            )


def _check_known(inputs: Mapping[str, Any], page: Page) -> None:
    """Whether every argument that is no setting is an input."""
    for name, value in inputs.items():
        if is_argument(name):
            raise InputError(
                f"{name}: is an argument of `run` or `run_each`, and not of this function."
            )
        if name not in page.specs and value is not None:
            words = [*page.specs, *(each.name for each in fields(Settings))]
            raise InputError(
                f"{name}: no argument of a run and no input of recipe {page.name!r}."
                f"{did_you_mean(name, words)} Its inputs: "
                f"{conjoined(list(page.specs)) or 'none'}."
            )


def _loaded(page: Page, given: Mapping[str, Any], sentences: list[str]) -> Inputs:
    """The inputs of one photograph; the demonstration if nothing is given at all."""
    given = {name: value for name, value in given.items() if value is not None}
    if not given and page.specs:
        given, credits = demonstration(page.specs, page.demo)
        if given:
            sentences.append(
                f"No inputs given: taking the demonstration, {conjoined(list(given))} "
                f"({'; '.join(credits)})."
            )
    return load_inputs(given, page.specs, recipe=page.name)


def _own_text(recipe: RecipeLike) -> str | None:
    """Text of the user's own page, so that messages can name its lines."""
    if isinstance(recipe, Mapping):
        return None
    path = Path(recipe).expanduser()
    return path.read_text(encoding="utf-8") if path.suffix in (".yaml", ".yml") else None


def _about_choices(
    page: Page,
    notes: Mapping[str, str],
    options: Mapping[str, Any],
    wanted: Mapping[str, str],
    device: torch.device,
) -> Iterator[str]:
    """Which option of each choice was taken, why, and how to ask for another."""
    for group, option in page.chosen.items():
        if group not in options:
            continue
        others = [name for name in options[group]["options"] if name != option]
        why = (
            "as asked"
            if group in wanted
            else f"since this runs on {device.type}"
            if isinstance(options[group]["default"], dict)
            else "by default"
        )
        note = notes.get(f"{group}.{option}", "")
        flag = f"--{group}" if group == "budget" else f"--choose {group}="
        ask = " or ".join(f"{flag}{' ' if group == 'budget' else ''}{name}" for name in others)
        other = "others" if len(others) > 1 else "other"
        yield (
            f"{group}: {option}, {why}{': ' + note if note else ''}."
            f"{f' For the {other}: {ask}.' if others else ''}"
        )

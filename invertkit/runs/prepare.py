"""From a recipe's name and the user's inputs to a job."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from invertkit.core.devices import pick_device
from invertkit.core.images.demo import CREDIT, demo_inputs
from invertkit.core.images.inputs import Inputs
from invertkit.core.images.load import Fit, ImageLike, load_image, load_mask
from invertkit.core.precision import PRECISIONS
from invertkit.core.recording.replay import COMPILE
from invertkit.core.suggestions import one_of
from invertkit.errors import InputError
from invertkit.recipe.overlay import choose, flatten, override, read_layers
from invertkit.recipe.page import Page, validate
from invertkit.recipe.registry import Registry
from invertkit.recipe.yaml_text import naming_lines
from invertkit.runs.collection import Photographs, load_each
from invertkit.runs.job import Job


def prepare(
    recipe: str | Path,
    *,
    image: ImageLike | None = None,
    mask: ImageLike | None = None,
    target: ImageLike | None = None,
    photographs: Photographs | None = None,
    files: Mapping[str, str | None] | None = None,
    seed: int = 0,
    seeds: int = 1,
    batch: int | None = None,
    device: str = "auto",
    choices: Mapping[str, str] | None = None,
    overrides: Sequence[str] | Mapping[str, Any] = (),
    models: Mapping[str, Any] | None = None,
    parts: Sequence[str | Path] = (),
    compile: str = "auto",
    precision: str = "tf32",
) -> Job:
    """Read, choose, override and check a recipe, and load its inputs; see `run`, `run_each`."""
    if seeds < 1:
        raise InputError(f"seeds: expected at least 1 image, got {seeds}.")
    if batch is not None and (batch != int(batch) or batch < 1):
        raise InputError(f"batch: expected a number of images from 1, got {batch}.")
    how = one_of("compile", compile, COMPILE)
    numbers = one_of("precision", precision, PRECISIONS)
    where = pick_device(device)
    registry = Registry()
    for path in parts:
        registry = registry.with_parts(Path(path))
    layers = read_layers(recipe)
    raw = flatten(layers)
    notes: Mapping[str, str] = raw.get("notes") or {}
    options = raw.get("choices") or {}
    if isinstance(overrides, Mapping):
        overrides = [
            f"{key}={value if isinstance(value, str) else json.dumps(value, default=str)}"
            for key, value in overrides.items()
        ]
    text = _own_text(recipe)
    with naming_lines(text, raw):
        raw = choose(layers, choices or {}, device=where.type)
    raw = override(raw, overrides)
    with naming_lines(text, raw):
        page = validate(raw)
    said = [*_about_choices(page, notes, options, choices or {}, where)]
    if photographs is not None:
        inputs = load_each(photographs, page.inputs, files)
        said.append(f"{len(inputs)} photographs: {_few([each.name for each in inputs])}.")
    elif page.inputs and image is mask is target is None:
        demo = demo_inputs()
        inputs = (Inputs(**{name: getattr(demo, name) for name in page.inputs}),)
        masks = " and its two masks" if inputs[0].mask is not None else ""
        said.append(f"No image given: taking the demonstration ({CREDIT}){masks}.")
    else:
        inputs = (
            Inputs(
                None if image is None else load_image(image),
                None if mask is None else load_mask(mask),
                None if target is None else load_mask(target, who="target"),
            ),
        )
    for each in inputs:
        _check_cut(each, page.fit)
    return Job(
        page=page,
        raw=raw,
        photographs=inputs,
        seeds=tuple(range(seed, seed + seeds)),
        device=where,
        registry=registry,
        models=dict(models or {}),
        parts=tuple(str(Path(path).resolve()) for path in parts),
        said=tuple(said),
        text=text,
        compile=how,
        precision=numbers,
        batch=batch,
    )


def _check_cut(inputs: Inputs, fit: Fit) -> None:
    """Whether `fit: crop` leaves something of object and target."""
    side = min(inputs.image.shape[-2:]) if inputs.image is not None and fit == "crop" else 0
    fitted = inputs.at((side, side), fit) if side else inputs
    for kind, mask in (("mask", fitted.mask), ("target", fitted.target)):
        if mask is not None and not mask.any():
            of = f"{inputs.name}: " if inputs.name else ""
            raise InputError(
                f"{of}{kind}: the recipe looks at the square in the middle (`fit: crop`), where no "
                "pixel of it is white. Give a photograph cut around the object, or `--set "
                "fit=stretch`."
            )


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (", …" if len(names) > 8 else "")


def _own_text(recipe: str | Path) -> str | None:
    """Text of the user's own page, so that messages can name its lines."""
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
        ask = " or ".join(f"{flag}{' ' if group == 'budget' else ''}{other}" for other in others)
        yield (
            f"{group}: {option}, {why}{': ' + note if note else ''}."
            f"{f' For the other: {ask}.' if others else ''}"
        )

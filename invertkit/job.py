"""A recipe with its inputs: read, chosen, overridden, checked, ready to run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, final

import torch

from invertkit.demo import CREDIT, demo_inputs
from invertkit.errors import InputError
from invertkit.images import ImageLike, Inputs, load_image, load_mask
from invertkit.precision import PRECISIONS, Precision
from invertkit.problem import Problem
from invertkit.recipe.build import build
from invertkit.recipe.overlay import choose, flatten, override, read_layers
from invertkit.recipe.page import Node, Page, validate
from invertkit.recipe.yaml_text import naming_lines
from invertkit.registry import Registry
from invertkit.replay import COMPILE, Compile

T = TypeVar("T")


@final
@dataclass(frozen=True)
class Job:
    """A recipe with its inputs, ready to run.

    Args:
        page: The resolved recipe, checked.
        raw: The same as plain data, written beside the result.
        inputs: Photograph and masks.
        seeds: One per image.
        device: Where.
        registry: The parts that exist.
        models: Networks given from Python.
        parts: Files with the user's own parts.
        said: What to tell the user before the first step.
        text: The user's own page, so that messages can name its lines.
        compile: How steps are taken.
        precision: Of the networks.
    """

    page: Page
    raw: Node
    inputs: Inputs
    seeds: tuple[int, ...]
    device: torch.device
    registry: Registry = field(default_factory=Registry)
    models: Mapping[str, Any] = field(default_factory=dict)
    parts: tuple[str, ...] = ()
    said: tuple[str, ...] = ()
    text: str | None = None
    compile: Compile = "auto"
    precision: Precision = "tf32"

    def problem(self, seeds: tuple[int, ...]) -> Problem:
        """The problem of some of the images."""
        with naming_lines(self.text, self.raw):
            return build(
                self.page,
                self.inputs,
                seeds=seeds,
                device=self.device,
                registry=self.registry,
                models=self.models,
                precision=self.precision,
            )

    def batches(self, problem: Problem) -> list[tuple[int, ...]]:
        """Which images are solved side by side.

        On a CPU one at a time: it is as fast, takes less memory, and rounds the same whatever the
        company. On an accelerator all at once, unless the optimizer would mix them.
        """
        optimizers = [problem.optimizer_of(i) for i in range(len(problem.stages))]
        if self.device.type == "cpu" or any(each.couples_images for each in optimizers):
            return [(seed,) for seed in self.seeds]
        return [self.seeds]


def prepare(
    recipe: str | Path,
    *,
    image: ImageLike | None = None,
    mask: ImageLike | None = None,
    target: ImageLike | None = None,
    seed: int = 0,
    seeds: int = 1,
    device: str = "auto",
    choices: Mapping[str, str] | None = None,
    overrides: Sequence[str] | Mapping[str, Any] = (),
    models: Mapping[str, Any] | None = None,
    parts: Sequence[str | Path] = (),
    compile: str = "auto",
    precision: str = "tf32",
) -> Job:
    """Read, choose, override and check a recipe, and load its inputs; see `run`."""
    if seeds < 1:
        raise InputError(f"seeds: expected at least 1 image, got {seeds}.")
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
    if page.inputs and image is mask is target is None:
        demo = demo_inputs()
        inputs = Inputs(**{name: getattr(demo, name) for name in page.inputs})
        masks = " and its two masks" if inputs.mask is not None else ""
        said.append(f"No image given: taking the demonstration ({CREDIT}){masks}.")
    else:
        inputs = Inputs(
            None if image is None else load_image(image),
            None if mask is None else load_mask(mask),
            None if target is None else load_mask(target, who="target"),
        )
    return Job(
        page=page,
        raw=raw,
        inputs=inputs,
        seeds=tuple(range(seed, seed + seeds)),
        device=where,
        registry=registry,
        models=dict(models or {}),
        parts=tuple(str(Path(path).resolve()) for path in parts),
        said=tuple(said),
        text=text,
        compile=how,
        precision=numbers,
    )


def one_of(name: str, value: str, known: Sequence[T]) -> T:
    """The one of `known` that somebody wrote.

    Raises:
        InputError: None of them.
    """
    for each in known:
        if value == each:
            return each
    near = get_close_matches(value, map(str, known), n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise InputError(f"{name}: expected {', '.join(map(str, known))}, got {value!r}.{hint}")


def pick_device(device: str) -> torch.device:
    """The torch device of that name; `auto` is CUDA where there is one, else the CPU.

    Raises:
        InputError: CUDA is asked for and absent, or the name means nothing.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        wanted = torch.device(device)
    except RuntimeError:
        wanted = torch.device("meta")
    if wanted.type not in ("cpu", "cuda"):
        raise InputError(f"device: expected auto, cpu, cuda or cuda:N, got {device!r}.")
    if wanted.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (wanted.index or 0) >= count:
            raise InputError(
                f"device: {device!r} was asked for, but this machine has {count or 'no'} CUDA "
                f"device{'s' if count > 1 else ''} that PyTorch can use. Use `--device cpu`, or "
                "install a CUDA build of PyTorch."
            )
    return wanted


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

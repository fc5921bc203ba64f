"""A recipe with its inputs: read, chosen, overridden, checked, ready to run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar, final

import torch

from invertkit.core.images.demo import CREDIT, demo_inputs
from invertkit.core.images.load import Fit, ImageLike, Inputs, load_image, load_mask
from invertkit.core.precision import PRECISIONS, Precision
from invertkit.core.recording.replay import COMPILE, Compile
from invertkit.engine.problem import Problem
from invertkit.errors import InputError
from invertkit.recipe.build import build
from invertkit.recipe.overlay import choose, flatten, override, read_layers
from invertkit.recipe.page import Node, Page, validate
from invertkit.recipe.registry import Registry
from invertkit.recipe.yaml_text import naming_lines
from invertkit.runs.collection import Photographs, load_each

T = TypeVar("T")

MOST: Final = 16
"""Images that an accelerator solves side by side, if nobody says how many."""


class Batch(NamedTuple):
    """Images that are solved side by side, those of one photograph next to each other.

    Args:
        seeds: One per image.
        of: The number of each image's photograph.
    """

    seeds: tuple[int, ...]
    of: tuple[int, ...]

    def apart(self) -> list[Batch]:
        """A batch for each photograph."""
        rows = {
            number: [i for i, owner in enumerate(self.of) if owner == number] for number in self.of
        }
        return [
            Batch(tuple(self.seeds[i] for i in own), (number,) * len(own))
            for number, own in rows.items()
        ]


@final
@dataclass(frozen=True)
class Job:
    """A recipe with its inputs, ready to run.

    Args:
        page: The resolved recipe, checked.
        raw: The same as plain data, written beside the result.
        photographs: With their masks. Every one gets an image of each seed.
        seeds: One per image of a photograph.
        device: Where.
        registry: The parts that exist.
        models: Networks given from Python.
        parts: Files with the user's own parts.
        said: What to tell the user before the first step.
        text: The user's own page, so that messages can name its lines.
        compile: How steps are taken.
        precision: Of the networks.
        batch: How many images are solved side by side at most; see `batches`.
    """

    page: Page
    raw: Node
    photographs: tuple[Inputs, ...]
    seeds: tuple[int, ...]
    device: torch.device
    registry: Registry = field(default_factory=Registry)
    models: Mapping[str, Any] = field(default_factory=dict)
    parts: tuple[str, ...] = ()
    said: tuple[str, ...] = ()
    text: str | None = None
    compile: Compile = "auto"
    precision: Precision = "tf32"
    batch: int | None = None

    def problem(self, seeds: tuple[int, ...], of: Sequence[int] = ()) -> Problem:
        """The problem of some of the images.

        Args:
            seeds: One per image.
            of: Which photograph each is of; the first, if nothing is said.
        """
        inputs = [self.photographs[number] for number in of] or self.photographs[:1]
        with naming_lines(self.text, self.raw):
            return build(
                self.page,
                inputs,
                seeds=seeds,
                device=self.device,
                registry=self.registry,
                models=self.models,
                precision=self.precision,
            )

    def batches(self, problem: Problem) -> list[Batch]:
        """Which images are solved side by side.

        On a CPU one at a time: it is as fast, takes less memory, and rounds the same whatever the
        company. On an accelerator 16, or `batch` on either. An optimizer that would mix images has
        them one by one; photographs share a batch if their stages have the same sizes and no part
        mixes images.
        """
        most = self.batch or (1 if self.device.type == "cpu" else MOST)
        optimizers = [problem.optimizer_of(i) for i in range(len(problem.stages))]
        if any(each.couples_images for each in optimizers):
            most = 1
        coupled = any(player.couples_images for player in problem.players.values()) or any(
            term.objective.couples_images for term in problem.terms
        )
        together = 1 if coupled else most // len(self.seeds)
        batches = []
        for alike in self._alike():
            if together <= 1:
                batches += [
                    Batch(self.seeds[i : i + most], (number,) * len(self.seeds[i : i + most]))
                    for number in alike
                    for i in range(0, len(self.seeds), most)
                ]
                continue
            for i in range(0, len(alike), together):
                some = alike[i : i + together]
                of = tuple(number for number in some for _ in self.seeds)
                batches.append(Batch(self.seeds * len(some), of))
        return batches

    @property
    def each(self) -> bool:
        """Whether it goes over photographs that have names, each with a folder of its own."""
        return bool(self.photographs[0].name)

    def _alike(self) -> list[list[int]]:
        """The numbers of the photographs, those together whose images have the same sizes."""
        sides = [stage.size for _, stage in self.page.in_order() if stage.size]
        groups: dict[tuple[tuple[int, int], ...], list[int]] = {}
        for number, photograph in enumerate(self.photographs):
            sizes = tuple(photograph.size(side, self.page.fit) for side in sides)
            groups.setdefault(sizes, []).append(number)
        return list(groups.values())


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

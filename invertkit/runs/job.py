"""A recipe with its inputs: read, chosen, overridden, checked, ready to run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, final

import torch

from invertkit.core.images.inputs import Inputs
from invertkit.engine.problem import Problem
from invertkit.recipe.build import build
from invertkit.recipe.page import Node, Page
from invertkit.recipe.registry import Registry
from invertkit.recipe.yaml_text import naming_lines
from invertkit.runs.batching import Batch, batches, couples_photographs, most_images
from invertkit.runs.settings import Settings


@final
@dataclass(frozen=True)
class Job:
    """A recipe with its inputs, ready to run.

    Args:
        page: The resolved recipe, checked.
        raw: The same as plain data, written beside the result.
        photographs: With their masks. Every one gets an image of each seed.
        settings: How it is run.
        registry: The parts that exist.
        sentences: What to tell the user before the first step.
        text: The user's own page, so that messages can name its lines.

    Example:
        >>> from invertkit.runs.prepare import prepare_job
        >>> prepare_job("magic-swift", device="cpu", seeds=2)
        <Job of 'magic-swift': 2 images on cpu>
    """

    page: Page
    raw: Node
    photographs: tuple[Inputs, ...]
    settings: Settings
    registry: Registry = field(default_factory=Registry)
    sentences: tuple[str, ...] = ()
    text: str | None = None

    def using(self, **changes: Any) -> Job:
        """The same job with some of its settings changed, by name.

        Raises:
            InputError: A value is none that the setting may have.
        """
        return replace(self, settings=replace(self.settings, **changes))

    @property
    def seeds(self) -> tuple[int, ...]:
        """One per image of a photograph."""
        return self.settings.image_seeds

    @property
    def device(self) -> torch.device:
        """The device that the settings name."""
        return torch.device(self.settings.device)

    @property
    def each(self) -> bool:
        """Whether it goes over photographs that have names, each with a folder of its own."""
        return bool(self.photographs[0].name)

    def problem(self, seeds: tuple[int, ...] = (), of: Sequence[int] = ()) -> Problem:
        """The problem of some of the images; networks that the settings lack are opened anew.

        Args:
            seeds: One per image; by default the first alone.
            of: Which photograph each is of; the first, if nothing is said.

        Raises:
            InvertkitError: The recipe cannot be run with these inputs.
        """
        inputs = [self.photographs[number] for number in of] or self.photographs[:1]
        with naming_lines(self.text, self.raw):
            return build(
                self.page,
                inputs,
                seeds=seeds or self.seeds[:1],
                device=self.device,
                registry=self.registry,
                models=self.settings.models,
                precision=self.settings.precision,
            )

    def batches(self, problem: Problem) -> list[Batch]:
        """Which images are solved side by side.

        Photographs share a batch if their stages have the same sizes and no part mixes images.

        Args:
            problem: Of any of the images.
        """
        return list(
            batches(
                self._alike(),
                self.seeds,
                most=most_images(problem, self.settings.batch, self.device),
                mixed=not couples_photographs(problem),
            )
        )

    def _alike(self) -> list[list[int]]:
        """The numbers of the photographs, those together whose images have the same sizes."""
        fit = self.page.fit
        # A stage without a size takes that of the stage before, so the others decide.
        sides = [stage.size for _, stage in self.page.in_order() if stage.size]
        groups: dict[tuple[Any, ...], list[int]] = {}
        for number, photograph in enumerate(self.photographs):
            shapes = [photograph.shapes(photograph.size(side, fit), fit) for side in sides]
            groups.setdefault(tuple(shapes), []).append(number)
        return list(groups.values())

    def __repr__(self) -> str:
        name, count, images = self.page.name or "recipe", len(self.photographs), len(self.seeds)
        photographs = f"{count} photographs, " if self.each else ""
        return (
            f"<Job of {name!r}: {photographs}{images} image{'s' if images > 1 else ''}"
            f"{' each' if self.each else ''} on {self.device}>"
        )

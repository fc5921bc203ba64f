"""A recipe with its inputs: read, chosen, overridden, checked, ready to run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import torch

from invertkit.core.images.inputs import Inputs
from invertkit.core.precision import Precision
from invertkit.core.recording.replay import Compile
from invertkit.engine.problem import Problem
from invertkit.recipe.build import build
from invertkit.recipe.page import Node, Page
from invertkit.recipe.registry import Registry
from invertkit.recipe.yaml_text import naming_lines
from invertkit.runs.batching import MOST, Batch


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

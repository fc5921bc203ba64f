"""The landscape of one step: images, frames, terms, chunks, and the best that was seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from jaxtyping import Float
from torch import Tensor

from invertkit.core.params import Params, count_rows
from invertkit.core.pixel_space import Space, clip_pixels
from invertkit.core.randomness import Randomness
from invertkit.core.scene import Scene
from invertkit.core.view import View
from invertkit.engine.candidates import StepBest
from invertkit.engine.frames import FrameCache
from invertkit.engine.losses import weighted_losses
from invertkit.engine.memory import Chunking, Span, bytes_saved
from invertkit.engine.problem import Term
from invertkit.optimizers.base import Landscape
from invertkit.variables.base import Variable


@final
@dataclass(frozen=True)
class StepSetting:
    """What decides the losses of a step, wherever one stands.

    Args:
        variable: Makes images of tensors.
        scene: Of the stage.
        terms: That count.
        weights: Of the terms, by name.
        randomness: Of the run.
        step: Of the run.
        frames: Of the stage.
        chunks: Of the stage.
        best: Collects the best candidate of each image.
    """

    variable: Variable
    scene: Scene
    terms: Sequence[Term]
    weights: Mapping[str, Tensor]
    randomness: Randomness
    step: int
    frames: FrameCache
    chunks: Chunking
    best: StepBest


class _Evaluated(NamedTuple):
    """Candidates with their losses (with a graph, if there is one) and the terms' values."""

    losses: Float[Tensor, " n"]
    images: Float[Tensor, "n 3 h w"]
    values: dict[str, Float[Tensor, " n"]]


@final
class StepLandscape(Landscape):
    """The losses of a run's terms at one step, as an optimizer sees them.

    Whatever it evaluates is offered to the step's best, so that nobody evaluates anything twice.

    Args:
        points: Tensors of the variable, one row an image, or `k` rows side by side.
        setting: Of the step.
    """

    def __init__(self, points: Params, setting: StepSetting) -> None:
        super().__init__(points, randomness=setting.randomness, step=setting.step)
        self._setting = setting
        self._ahead: Tensor | None = None
        self._space: Space | None = None

    def at(self, points: Params) -> StepLandscape:
        elsewhere = copy(self)
        elsewhere.points, elsewhere._ahead = points, None  # the look was from here
        return elsewhere

    def within(self, space: Space) -> StepLandscape:
        narrowed = copy(self)
        narrowed._space = space
        return narrowed

    def fresh(self, count: int, purpose: str) -> Params:
        with torch.no_grad():
            draws = self.randomness.candidates(count, purpose)
            (scene,) = self._plain_scenes(count * self.images)
            return self._setting.variable.start(scene, draws)

    def centre(self) -> Params:
        with torch.no_grad():
            return self._setting.variable.centre(self._setting.scene, self.randomness)

    def confine(self) -> None:
        with torch.no_grad():
            if self._space is not None:
                for pixels in self.points.values():
                    clip_pixels(pixels, self._space)
            self._setting.variable.confine(self.points)

    # ------------------------------------------------------------------ evaluating

    def look_ahead(self) -> Float[Tensor, "n 3 h w"]:
        """The images as they are; the look behind them serves the next evaluation."""
        variable, points = self._setting.variable, self.points
        (scene,) = self._plain_scenes(count_rows(points))
        self._ahead = variable.look(points, scene, self._draws(), self.step)
        with torch.no_grad():
            return variable.still(self._ahead.detach(), points, scene).clone()

    def __call__(self) -> Float[Tensor, " n"]:
        count = count_rows(self.points)
        (scene,) = self._plain_scenes(count)
        (frame,) = self._frames([(0, count)])
        evaluated = self._descend(self.points, scene, frame, self._draws())
        self._offer([evaluated])
        return evaluated.losses

    def gradients(self) -> Float[Tensor, " n"]:
        spans = self.spans()
        if len(spans) == 1:
            return super().gradients()
        chunks, draws = [], self._draws()
        scenes = self._plain_scenes(count_rows(self.points), spans)
        for span, scene, frame in zip(spans, scenes, self._frames(spans), strict=True):
            # Leaves of their own, so that each chunk's graph ends with its backward.
            rows = {
                name: point.detach()[slice(*span)].requires_grad_(point.requires_grad)
                for name, point in self.points.items()
            }
            evaluated = self._descend(rows, scene, frame, draws.rows(*span))
            evaluated.losses.sum().backward()
            self._add_gradients(rows, span)
            chunks.append(evaluated._replace(losses=evaluated.losses.detach()))
        return self._offer(chunks)

    def losses(self) -> Float[Tensor, " n"]:
        spans, draws, variable = self.spans(), self._draws(), self._setting.variable
        chunks = []
        with torch.no_grad():
            scenes = self._plain_scenes(count_rows(self.points), spans)
            for span, scene in zip(spans, scenes, strict=True):
                rows = {name: point.detach()[slice(*span)] for name, point in self.points.items()}
                images = variable.image(rows, scene)
                losses, values = self._judge(images, rows, scene, draws.rows(*span))
                chunks.append(_Evaluated(losses, images, values))
        return self._offer(chunks, plain=True)

    def _descend(self, rows: Params, scene: Scene, frame: Scene, draws: Randomness) -> _Evaluated:
        """Evaluate looks, which a descent follows, and the images as they are."""
        look, self._ahead = self._ahead, None
        if look is None:
            look = self._setting.variable.look(rows, scene, draws, self.step)
        losses, values = self._judge(look, rows, frame, draws)
        images = look.detach()
        if self._comparable():
            # Where pixels are the image, `still` gives the leaf itself: what is kept of it would
            # record every later comparison in a graph.
            with torch.no_grad():
                images = self._setting.variable.still(images, rows, scene).detach()
        return _Evaluated(losses, images, values)

    def _judge(
        self, images: Tensor, rows: Params, scene: Scene, draws: Randomness
    ) -> tuple[Float[Tensor, " n"], dict[str, Float[Tensor, " n"]]]:
        view = View(images, scene, draws, self.step, tensors=rows)
        return weighted_losses(self._setting.terms, self._setting.weights, view)

    def _add_gradients(self, rows: Params, span: Span) -> None:
        """Those of a chunk's leaves to those of the points they are of."""
        for name, row in rows.items():
            if row.grad is not None:
                point = self.points[name]
                if point.grad is None:
                    point.grad = torch.zeros_like(point)
                point.grad[slice(*span)] += row.grad

    def _offer(self, chunks: Sequence[_Evaluated], *, plain: bool = False) -> Tensor:
        """Offer chunks to the best of the step; the losses of all, without a graph."""
        best, variable = self._setting.best, self._setting.variable
        losses = torch.cat([chunk.losses.detach() for chunk in chunks])
        names = chunks[0].values
        best.note({n: torch.cat([chunk.values[n] for chunk in chunks]) for n in names}, losses)
        if plain or self._comparable():
            tensors = self.points if variable.is_latent else {}
            best.add(losses, torch.cat([chunk.images for chunk in chunks]), tensors)
        return losses

    def _comparable(self) -> bool:
        """Whether losses of looks may be compared: not between candidates of other frames."""
        return not self._setting.variable.frame_names or count_rows(self.points) == self.images

    # ------------------------------------------------------------------ rows

    def _draws(self) -> Randomness:
        return self.randomness.candidates(count_rows(self.points) // self.images)

    def _plain_scenes(self, count: int, spans: Sequence[Span] | None = None) -> list[Scene]:
        """The scene of all of `count` rows, or of some spans of them, as it lies."""
        return self._setting.frames.plain(self._setting.scene, count, spans or [(0, count)])

    def _frames(self, spans: Sequence[Span]) -> list[Scene]:
        """The scene in which the looks of each span are judged."""
        setting = self._setting
        return setting.frames.of(setting.variable, self.points, setting.scene, spans)

    def spans(self) -> list[Span]:
        """Rows that are evaluated at a time: all of them where the look is there already."""
        count = count_rows(self.points)
        if self._ahead is not None:
            return [(0, count)]
        terms = tuple(self._setting.weights)
        return self._setting.chunks.spans(count, key=terms, bytes_per_row=self.bytes_per_row)

    def bytes_per_row(self) -> int:
        """Bytes that the graph of one row saves, if all tensors take gradients."""
        variable, draws = self._setting.variable, self._draws().rows(0, 1)
        rows = {name: point.detach()[:1].clone() for name, point in self.points.items()}
        (scene,) = self._plain_scenes(count_rows(self.points), [(0, 1)])

        def look_and_judge() -> None:
            look = variable.look(rows, scene, draws, self.step)
            self._judge(look, rows, frame, draws)

        with torch.no_grad():  # what is made at the first look is not measured
            frame = variable.frame(rows, scene) if variable.frame_names else scene
            look_and_judge()
        for row in rows.values():
            row.requires_grad_()
        models = self._setting.scene.models.values()
        weights = (parameter for model in models for parameter in model.parameters())
        return bytes_saved(look_and_judge, apart_from=weights)

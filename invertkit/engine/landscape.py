"""The landscape of one step: images, frames, terms, chunks, and what was seen on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from invertkit.core.params import Params, count_rows
from invertkit.core.pixel_space import Space, clip_pixels
from invertkit.core.randomness import Randomness
from invertkit.core.recording.tape import refuse, speaking_of
from invertkit.core.scene import Scene
from invertkit.core.view import View
from invertkit.engine.candidates import Seen
from invertkit.engine.frames import Frames
from invertkit.engine.problem import Term
from invertkit.errors import InputError
from invertkit.objectives.base import Objective, evaluate
from invertkit.optimizers.base import Landscape
from invertkit.variables.base import Variable


@final
class Evaluation(Landscape):
    """The losses of a run's terms at this step, as an optimizer sees them.

    Args:
        points: Tensors of the variable, `images` or `images·k` rows.
        variable: Makes images of them.
        scene: Of the stage.
        terms: That count.
        weights: Of the terms, by name.
        randomness: Of the run.
        step: Of the run.
        frames: Of the stage.
        seen: Collects the best.
        memory: Bytes one backward may take, or None.
    """

    def __init__(
        self,
        points: Params,
        *,
        variable: Variable,
        scene: Scene,
        terms: Sequence[Term],
        weights: Mapping[str, Tensor],
        randomness: Randomness,
        step: int,
        frames: Frames,
        seen: Seen,
        memory: int | None = None,
    ) -> None:
        super().__init__(points, randomness=randomness, step=step)
        self._variable, self._scene, self._frames, self._seen = variable, scene, frames, seen
        self._terms, self._weights, self._memory = terms, weights, memory
        self._ahead: Tensor | None = None
        self._space: Space | None = None

    def at(self, points: Params) -> Evaluation:
        elsewhere = copy(self)
        elsewhere.points, elsewhere._ahead = points, None  # the look was from here
        return elsewhere

    def within(self, space: Space) -> Evaluation:
        narrowed = copy(self)
        narrowed._space = space
        return narrowed

    def fresh(self, count: int, purpose: str) -> Params:
        with torch.no_grad():
            draws = self.randomness.candidates(count, purpose)
            (scene,) = self._plain_scenes(count * self._seen.images_count)
            return self._variable.start(scene, draws)

    def centre(self) -> Params:
        with torch.no_grad():
            return self._variable.centre(self._scene, self.randomness)

    def confine(self) -> None:
        with torch.no_grad():
            if self._space is not None:
                for pixels in self.points.values():
                    clip_pixels(pixels, self._space)
            self._variable.confine(self.points)

    # ------------------------------------------------------------------ evaluating

    def look_ahead(self) -> Float[Tensor, "n 3 h w"]:
        """The images as they are; the look behind them serves the next evaluation."""
        draws, points = self._draws(), self.points
        (scene,) = self._plain_scenes(count_rows(points))
        self._ahead = self._variable.look(points, scene, draws, self.step)
        with torch.no_grad():
            return self._variable.still(self._ahead.detach(), points, scene).clone()

    def gradients(self) -> Float[Tensor, " n"]:
        spans = self._spans()
        if len(spans) == 1:
            return super().gradients()
        plain = self._plain_scenes(count_rows(self.points), spans)
        frames = self._frames.of(self._variable, self.points, self._scene, spans)
        parts, draws = [], self._draws()
        for (start, stop), scene, frame in zip(spans, plain, frames, strict=True):
            rows = {
                name: point.detach()[start:stop].requires_grad_(point.requires_grad)
                for name, point in self.points.items()
            }
            losses, images, values = self._evaluate(rows, scene, frame, draws.rows(start, stop))
            losses.sum().backward()
            for name, row in rows.items():
                if row.grad is not None:
                    point = self.points[name]
                    if point.grad is None:
                        point.grad = torch.zeros_like(point)
                    point.grad[start:stop] += row.grad
            parts.append((losses.detach(), images, values))
        return self._gathered(parts)

    def losses(self) -> Float[Tensor, " n"]:
        spans, draws = self._spans(), self._draws()
        parts = []
        with torch.no_grad():
            plain = self._plain_scenes(count_rows(self.points), spans)
            for (start, stop), scene in zip(spans, plain, strict=True):
                rows = {name: point.detach()[start:stop] for name, point in self.points.items()}
                images = self._variable.image(rows, scene)
                losses, values = self._judge(images, rows, scene, draws.rows(start, stop))
                parts.append((losses, images, values))
        return self._gathered(parts, plain=True)

    def __call__(self) -> Float[Tensor, " n"]:
        count = count_rows(self.points)
        (scene,) = self._plain_scenes(count)
        (frame,) = self._frames.of(self._variable, self.points, self._scene, [(0, count)])
        losses, images, values = self._evaluate(self.points, scene, frame, self._draws())
        self._gathered([(losses.detach(), images, values)])
        return losses

    def _plain_scenes(
        self, count: int, spans: Sequence[tuple[int, int]] | None = None
    ) -> list[Scene]:
        """The scene of all of `count` rows, or of some spans of them, as it lies."""
        return self._frames.plain(self._scene, count, spans or [(0, count)])

    def _evaluate(
        self, rows: Params, scene: Scene, frame: Scene, draws: Randomness
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Losses with their graph, the images as they are, and the value of every term."""
        look, self._ahead = self._ahead, None
        if look is None:
            look = self._variable.look(rows, scene, draws, self.step)
        losses, values = self._judge(look, rows, frame, draws)
        images = look.detach()
        if self._comparable():
            with torch.no_grad():
                images = self._variable.still(images, rows, scene)
        return losses, images, values

    def _judge(
        self, images: Tensor, rows: Params, scene: Scene, draws: Randomness
    ) -> tuple[Tensor, dict[str, Tensor]]:
        view = View(images, scene, draws, self.step, tensors=rows)
        losses, values = images.new_zeros(len(images)), {}
        for term in self._terms:
            with speaking_of(f"objective.{term.name}"):
                value = self._value(term, view)
                self._watch(term)
            values[term.name] = value.detach()
            losses = losses + self._weights[term.name] * value
        return losses, values

    def _value(self, term: Term, view: View) -> Float[Tensor, " n"]:
        """One number an image.

        Raises:
            InputError: The objective gives something else, or cannot deal with several photographs.
        """
        fault: Exception | None = None
        try:
            value = evaluate(term.objective, view, term.region, term.of)
            if value.shape == (len(view.image),):
                return value
            said = f"got shape {tuple(value.shape)}"
        except (RuntimeError, IndexError) as error:
            if not view.scene.owners:
                raise
            said, fault = str(error).strip().split("\n")[0][:200], error
        several = (
            " What `prepare` keeps has a row for each photograph of the batch: take "
            "`view.rows(kept)` in `forward`, or make images one by one: `--batch 1`."
        )
        raise InputError(
            f"objective.{term.name}: expected one number an image, of shape ({len(view.image)},): "
            f"{said}.{several if view.scene.owners else ' Reduce over the other axes.'}"
        ) from fault

    def _watch(self, term: Term) -> None:
        """A term that goes by the number of the step must say which steps are alike."""
        standing = self.randomness.standing
        if standing is None or not standing.step_read:
            return
        standing.step_read = False
        if type(term.objective).phase is Objective.phase:
            refuse("it reads `view.step`, but has no `phase` to say which steps are alike")

    def _gathered(
        self, parts: Sequence[tuple[Tensor, Tensor, Mapping[str, Tensor]]], *, plain: bool = False
    ) -> Tensor:
        losses = torch.cat([part[0] for part in parts])
        values = {name: torch.cat([part[2][name] for part in parts]) for name in parts[0][2]}
        self._seen.note(values, losses)
        if plain or self._comparable():
            kept = self.points if self._variable.is_latent else {}
            self._seen.add(losses, torch.cat([part[1] for part in parts]), kept)
        return losses

    def _comparable(self) -> bool:
        """Whether losses of looks may be compared: not between candidates of other frames."""
        return not self._variable.frame_names or count_rows(self.points) == self._seen.images_count

    def _draws(self) -> Randomness:
        return self.randomness.candidates(count_rows(self.points) // self._seen.images_count)

    # ------------------------------------------------------------------ memory

    def _spans(self) -> list[tuple[int, int]]:
        """Rows of each chunk; equal for equal memory, whatever the machine is doing."""
        count = count_rows(self.points)
        if self._memory is None or count == 1 or self._ahead is not None:
            return [(0, count)]
        measured, terms = self._frames.bytes_per_row, tuple(self._weights)
        if terms not in measured:  # the same before and after a resume
            measured[terms] = self._measure()
        rows = max(1, self._memory // max(1, measured[terms]))
        return [(start, min(start + rows, count)) for start in range(0, count, rows)]

    def _measure(self) -> int:
        """Bytes that the graph of one row saves for its backward, if all tensors take gradients."""
        saved: dict[int, torch.UntypedStorage] = {}  # held, so that no address comes twice

        def pack(tensor: Tensor) -> Tensor:
            if not isinstance(tensor, nn.Parameter):  # weights in another layout are no row's
                storage = tensor.untyped_storage()
                saved[storage.data_ptr()] = storage
            return tensor

        rows = {
            name: point.detach()[:1].clone().requires_grad_() for name, point in self.points.items()
        }
        (scene,) = self._plain_scenes(count_rows(self.points), [(0, 1)])
        own = {parameter.untyped_storage().data_ptr() for parameter in self._weights_of_models()}
        hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
        with torch.no_grad():  # what is made at the first look is not measured
            frame = self._variable.frame(rows, scene) if self._variable.frame_names else scene
            look = self._variable.look(rows, scene, self._draws().rows(0, 1), self.step)
            self._judge(look, rows, frame, self._draws().rows(0, 1))
        with torch.enable_grad(), hooks:
            look = self._variable.look(rows, scene, self._draws().rows(0, 1), self.step)
            self._judge(look, rows, frame, self._draws().rows(0, 1))
        return sum(part.nbytes() for pointer, part in saved.items() if pointer not in own)

    def _weights_of_models(self) -> list[Tensor]:
        return [
            parameter for model in self._scene.models.values() for parameter in model.parameters()
        ]

"""The scenes in which candidates are judged, made once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, final

import torch
from torch import Tensor

from invertkit.core.params import Params, count_rows
from invertkit.core.recording.recorder import recording
from invertkit.core.scene import Scene
from invertkit.variables.base import Variable


@final
class FrameCache:
    """The scenes of a batch's chunks, computed again only when the tensors behind them change.

    Args:
        images: How many images the run has.
    """

    def __init__(self, images: int) -> None:
        self._images = images
        self._key: tuple[Any, ...] = ()
        self._held: list[Tensor] = []
        self._scenes: list[Scene] = []
        self._lying: Scene | None = None
        self._plain: dict[tuple[int, int, int], Scene] = {}

    def of(
        self,
        variable: Variable,
        points: Params,
        scene: Scene,
        spans: Sequence[tuple[int, int]],
    ) -> list[Scene]:
        """The scene of each span of rows in which looks are judged."""
        if not variable.frame_names:
            return self.plain(scene, count_rows(points), spans)
        # A tensor counts its changes in place, so nothing need be compared to see them.
        behind = [points[name] for name in points if name in variable.frame_names]
        key = (tuple(spans), *((id(tensor), tensor._version) for tensor in behind))
        if key == self._key and not recording():  # a replay sees whether what is behind changed
            return self._scenes
        count = count_rows(points)
        (all_rows,) = self.plain(scene, count, [(0, count)])
        with torch.no_grad():
            whole = variable.frame({n: point.detach() for n, point in points.items()}, all_rows)
        scenes = [_rows(whole, start, stop) for start, stop in spans]
        if not recording():
            self._scenes, self._key, self._held = scenes, key, behind  # held: ids stay unique
        return scenes

    def plain(self, scene: Scene, count: int, spans: Sequence[tuple[int, int]]) -> list[Scene]:
        """The scene of each span of `count` rows, as it lies."""
        if scene is not self._lying:
            self._lying, self._plain = scene, {}
        candidates = count // self._images
        if candidates == 1 and list(spans) == [(0, count)]:
            return [scene]
        for span in spans:
            if (candidates, *span) not in self._plain:
                part = None if span == (0, count) else span
                self._plain[candidates, *span] = scene.at(candidates, part)
        return [self._plain[candidates, *span] for span in spans]


def _rows(scene: Scene, start: int, stop: int) -> Scene:
    return replace(
        scene,
        inputs=scene.inputs.map(lambda tensor: tensor if len(tensor) == 1 else tensor[start:stop]),
        span=(start, stop),
        kept={},
    )

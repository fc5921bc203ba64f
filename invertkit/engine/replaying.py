"""Steps of a run, taken by Python or replayed from a recording."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, final

import torch
from torch import Tensor

from invertkit.core.randomness import StepDraws
from invertkit.core.recording.replay import Compile, Replays
from invertkit.engine.stage import Moment, StageRun


@final
class StepTaker:
    """Takes the steps of a run.

    A recording freezes the numbers of Python. So whatever changes from step to step, but for what
    the step itself computes, lies in tensors that keep their place: the number of the step, the
    weights of the terms, the draws, and the optimizer's learning rate. They are filled before
    each step, and a step by Python reads them as a replay does.

    Args:
        compile: How the steps are taken.
        device: Of the run.
        draws: Of the run's steps.

    Attributes:
        replays: The recordings.
        now: The number of the step, from 0.
        obstacle: Why the steps of the stage are not replayed; empty if they are.
    """

    def __init__(self, compile: Compile, device: torch.device, draws: StepDraws) -> None:
        self.replays = Replays(compile, device)
        self.now = torch.zeros((), dtype=torch.long, device=device)
        self.obstacle = ""
        self._draws = draws
        self._weights = torch.zeros(0)
        self._weights_now: list[float] = []
        self._epoch: tuple[Any, ...] = ()

    def enter(self, stage: StageRun) -> None:
        """Begin a stage: what was recorded in another is of no use."""
        self._epoch = ()
        self.obstacle = "nobody asked for it"
        if self.replays.compile != "off":
            self.obstacle = stage.plan.obstacle
            if self.obstacle:
                self.replays.say(
                    f"The steps of stage {stage.index + 1} are taken one by one: {self.obstacle}."
                )

    def weights(self, moment: Moment) -> Mapping[str, Tensor]:
        """The weights of the step's terms, by name, where a replay finds them."""
        return dict(zip(moment.weights, self._weights, strict=True))

    def take(self, stage: StageRun, moment: Moment, work: Callable[[], Tensor]) -> Tensor:
        """Take a step and return what it read.

        Args:
            stage: Under way.
            moment: The step.
            work: Takes it by Python and returns its readings, always of one shape.
        """
        self._fill(stage, moment)
        # The names of the terms are no part of the key: other terms end all recordings.
        phases = stage.plan.phases_at(moment.step)
        if self.obstacle or not all(phase.replayable for phase in phases):
            return work()
        height, width = stage.scene.size
        with self._draws.opened():
            return self.replays.take(
                phases,
                work,
                to_come=lambda: stage.plan.alike_from(moment.step),
                volatile=lambda: [*self._draws.tensors, self._weights, self.now],
                name=f"stage {stage.index + 1}, {width}×{height}",
            )

    def _fill(self, stage: StageRun, moment: Moment) -> None:
        """Put the numbers of this step where it looks for them."""
        weights, device = list(moment.weights.values()), self.now.device
        epoch = (stage.index, *moment.weights)
        if epoch != self._epoch:  # other tensors, or another number of weights
            self._epoch = epoch
            self.replays.forget()
            self._draws.forget()
            self._weights_now = []
            self._weights = torch.empty(len(weights), dtype=torch.float64, device=device)
        # Most weights never change, and on CUDA each copy is one more launch.
        if weights != self._weights_now:
            self._weights.copy_(torch.tensor(weights, dtype=torch.float64), non_blocking=True)
            self._weights_now = weights
        self.now.fill_(moment.step)
        self._draws.go_to(moment.step)
        stage.plan.optimizer.schedule(
            stage.state, step=moment.stage_step, total=stage.plan.stage.steps
        )

"""The live progress bar of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from rich.console import Console

from invertkit.core.live_bar import LiveBar

if TYPE_CHECKING:
    from invertkit.engine.run import StepReport


@final
class RunBar(LiveBar):
    """An observer of a run.

    Args:
        images: How many images the job makes.
        done: How many of them are there already.
        console: Where to draw; the terminal's error stream by default.
    """

    def __init__(self, *, images: int = 1, done: int = 0, console: Console | None = None) -> None:
        super().__init__(console)
        self._images, self._made, self._making = images, done, 0
        self._last_step = 0

    def __call__(self, report: StepReport) -> None:
        """Take in a step."""
        # Steps begin anew with every batch: then the images before are done.
        if report.step <= self._last_step:
            self._made += self._making
        self._last_step, self._making = report.step, len(report.losses)
        if not self.due() and report.step < report.total:
            return
        terms = (
            f"{name} {report.weights[name] * value.mean().item():.3g}"
            for name, value in report.values.items()
        )
        first, last = self._made + 1, self._made + self._making
        numbers = f"{first}" if first == last else f"{first}–{last}"
        which = f"image {numbers}/{self._images} " if self._images > self._making else ""
        self.draw(
            report.step,
            report.total,
            f"{which}{report.size[1]}×{report.size[0]}",
            f"loss {report.losses.mean().item():.4g} = " + " + ".join(terms),
        )

"""The picture of a run while it goes, in a notebook."""

from __future__ import annotations

import sys
import time
from typing import Any, Final, final

from PIL import Image

from invertkit.core.images.save import to_picture
from invertkit.engine.run import StepReport

_REFRESH: Final = 0.5
_HEIGHT: Final = 224
_MOST: Final = 4


@final
class LivePicture:
    """An observer that shows the images as they are, in one place of a notebook.

    They are drawn at most every half second, since reading them makes an accelerator wait.

    Args:
        handle: Where to show them: a `DisplayHandle` of IPython.
        clock: Tells the time in seconds.
    """

    def __init__(self, handle: Any, *, clock: Any = time.monotonic) -> None:
        self._handle, self._clock = handle, clock
        self._drawn = -_REFRESH + clock()
        self._shown = False

    @classmethod
    def in_notebook(cls) -> LivePicture | None:
        """One that shows below the cell that is running; None outside a notebook."""
        # Whoever sits in a notebook has imported it; nobody else shall wait for the import.
        ipython = sys.modules.get("IPython")
        shell = ipython.get_ipython() if ipython is not None else None
        if shell is None or not getattr(shell, "kernel", None):
            return None
        from IPython.display import DisplayHandle

        return cls(DisplayHandle())

    def __call__(self, report: StepReport) -> None:
        """Take in a step."""
        now = self._clock()
        if now - self._drawn < _REFRESH and report.step < report.total:
            return
        self._drawn = now
        picture = _side_by_side([to_picture(image) for image in report.run.last_images()[:_MOST]])
        if self._shown:
            self._handle.update(picture)
        else:
            self._handle.display(picture)
            self._shown = True


def _side_by_side(pictures: list[Image.Image]) -> Image.Image:
    """Pictures of one size in a row, enlarged so that small ones can be seen."""
    width = round(pictures[0].width * _HEIGHT / pictures[0].height)
    row = Image.new("RGB", (width * len(pictures), _HEIGHT))
    for i, picture in enumerate(pictures):
        row.paste(picture.resize((width, _HEIGHT), Image.Resampling.BICUBIC), (i * width, 0))
    return row

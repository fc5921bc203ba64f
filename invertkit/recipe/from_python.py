"""Parts made in Python that stand in for those of a page."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, final

import torch

from invertkit.errors import RecipeError


@final
@dataclass(frozen=True)
class FromPython:
    """A part that was made in Python, for one run.

    Args:
        part: As it was given; it is never changed.
        device: Of the run.

    Example:
        >>> from invertkit.variables.pixels import Pixels
        >>> pixels = Pixels(noise=0.1)
        >>> FromPython(pixels, torch.device("cpu")).copy() is pixels
        False
    """

    part: Any
    device: torch.device

    def copy(self, *, at: str = "") -> Any:
        """A copy for one problem; the tensors and networks it holds are on the run's device.

        Args:
            at: Its place on the page, for messages.

        Raises:
            RecipeError: It cannot be copied.
        """
        # Images are separate problems: what one of them teaches a player, the next must not know.
        try:
            part = copy.deepcopy(self.part)
        except Exception as error:
            raise RecipeError(
                f"{at}: {type(self.part).__name__} cannot be copied for a run "
                f"({str(error).split('.')[0]}); it may hold detached tensors and networks, but no "
                "graphs and no open files."
            ) from None
        for name, value in vars(part).items() if hasattr(part, "__dict__") else ():
            if isinstance(value, torch.Tensor | torch.nn.Module):
                object.__setattr__(part, name, value.to(self.device))
        return part

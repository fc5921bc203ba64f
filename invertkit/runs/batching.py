"""Which images are solved side by side."""

from __future__ import annotations

from typing import Final, NamedTuple

MOST: Final = 16
"""Images that an accelerator solves side by side, if nobody says how many."""


class Batch(NamedTuple):
    """Images that are solved side by side, those of one photograph next to each other.

    Attributes:
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

"""Random numbers that depend on the seed, the purpose and the step, and on nothing else.

There is no generator to carry along or to checkpoint: each draw makes its own from a hash of
(seed, purpose, step). So seed 3 gives the same picture alone, in a batch and after a resume, and
the global generators are neither read nor moved.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor


def generator(seed: int, purpose: str, step: int = 0) -> torch.Generator:
    """A CPU generator that belongs to (seed, purpose, step)."""
    digest = hashlib.blake2b(f"{seed}/{purpose}/{step}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


@final
@dataclass(frozen=True)
class Randomness:
    """Draws for a batch of images, one seed an image; made on the CPU, moved to `device`.

    Args:
        seeds: One per image.
        device: Where the numbers are wanted.
        suffixes: One per image, added to every purpose: which candidate of its seed it is.
    """

    seeds: tuple[int, ...]
    device: torch.device = torch.device("cpu")
    suffixes: tuple[str, ...] = ()

    def candidates(self, count: int, tag: str = "") -> Randomness:
        """Draws for `count` candidates an image, side by side; one without a tag is the image."""
        if count == 1 and not tag:
            return self
        which = f"/{tag}/" if tag else "/"
        own = self.suffixes or ("",) * len(self.seeds)
        seeds = tuple(seed for seed in self.seeds for _ in range(count))
        numbers = tuple(f"{before}{which}{k}" for before in own for k in range(count))
        return Randomness(seeds, self.device, numbers)

    def rows(self, start: int, stop: int) -> Randomness:
        """Draws for some of the images."""
        return Randomness(self.seeds[start:stop], self.device, self.suffixes[start:stop])

    def _generators(self, purpose: str, step: int) -> list[torch.Generator]:
        suffixes = self.suffixes or ("",) * len(self.seeds)
        pairs = zip(self.seeds, suffixes, strict=True)
        return [generator(seed, purpose + suffix, step) for seed, suffix in pairs]

    def normal(self, purpose: str, shape: Sequence[int], *, step: int = 0) -> Tensor:
        """Standard normal numbers `(b, *shape)`."""
        rows = [torch.randn(tuple(shape), generator=g) for g in self._generators(purpose, step)]
        return torch.stack(rows).to(self.device)

    def uniform(self, purpose: str, shape: Sequence[int], *, step: int = 0) -> Tensor:
        """Uniform numbers in [0, 1), `(b, *shape)`."""
        rows = [torch.rand(tuple(shape), generator=g) for g in self._generators(purpose, step)]
        return torch.stack(rows).to(self.device)

"""Random numbers that depend on the seed, the purpose and the step, and on nothing else.

There is no generator to carry along or to checkpoint: each draw makes its own from a hash of
(seed, purpose, step). So seed 3 gives the same picture alone, in a batch and after a resume, and
the global generators are neither read nor moved.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, final

import torch
from torch import Tensor


def generator(seed: int, purpose: str, step: int = 0) -> torch.Generator:
    """A CPU generator that belongs to (seed, purpose, step).

    Example:
        >>> first, again = generator(3, "noise"), generator(3, "noise")
        >>> bool(torch.equal(torch.rand(2, generator=first), torch.rand(2, generator=again)))
        True
    """
    # A hash, not `hash()`, which differs from process to process; and no sum of the three, so that
    # neighbouring seeds and steps share nothing. Torch takes 63 bits without complaint.
    digest = hashlib.blake2b(f"{seed}/{purpose}/{step}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


Distribution = Literal["normal", "uniform"]


@final
class StepDraws:
    """Draws that are made before a step and keep their tensors, for steps that are replayed.

    While it is `open`, a draw of the step it stands at is looked up here, made on the first
    demand, and from then on made anew, in place, whenever the step changes.
    """

    def __init__(self) -> None:
        self.open = False
        self.step_read = False
        """Whether something has read the number of the step since this was last set to False."""
        self._step = -1
        self._draws: dict[tuple[Distribution, Randomness, str, tuple[int, ...]], Tensor] = {}

    @property
    def tensors(self) -> list[Tensor]:
        """All that is written to between steps."""
        return list(self._draws.values())

    @contextmanager
    def opened(self) -> Iterator[None]:
        """A context in which draws are looked up here."""
        self.open = True
        try:
            yield
        finally:
            self.open = False

    def forget(self) -> None:
        """Steps of another kind begin: nothing drawn so far will be asked for again."""
        self._draws.clear()

    def go_to(self, step: int) -> None:
        """Make all draws of this step."""
        if step == self._step:
            return
        self._step = step
        for (kind, draws, purpose, shape), tensor in self._draws.items():
            fresh = draws.fresh(kind, purpose, shape, step=step)
            if tensor.device.type == "cuda":  # so that the copy need not wait, nor we for it
                fresh = fresh.pin_memory()
            tensor.copy_(fresh, non_blocking=True)

    def of(
        self, kind: Distribution, draws: Randomness, purpose: str, shape: tuple[int, ...], step: int
    ) -> Tensor | None:
        """The draw, if it is this step's; not to be written to."""
        if not self.open or step != self._step:
            return None
        key = (kind, draws, purpose, shape)
        if key not in self._draws:
            self._draws[key] = draws.fresh(kind, purpose, shape, step=step).to(draws.device)
        return self._draws[key]


@final
@dataclass(frozen=True)
class Randomness:
    """Draws for a batch of images, one seed an image; made on the CPU, moved to `device`.

    Args:
        seeds: One per image.
        device: Where the numbers are wanted.
        suffixes: One per image, added to every purpose: which candidate of its seed it is.
        step_draws: Draws of the run's present step, if its steps are replayed.

    Example:
        >>> both, alone = Randomness((3, 5)), Randomness((5,))
        >>> bool(torch.equal(both.normal("z", (4,))[1:], alone.normal("z", (4,))))
        True
    """

    seeds: tuple[int, ...]
    device: torch.device = torch.device("cpu")
    suffixes: tuple[str, ...] = ()
    step_draws: StepDraws | None = field(default=None, repr=False, compare=False)

    def candidates(self, count: int, tag: str = "") -> Randomness:
        """Draws for `count` candidates an image, side by side; one without a tag is the image."""
        # So a population of one draws what the image draws alone.
        if count == 1 and not tag:
            return self
        which = f"/{tag}/" if tag else "/"
        suffixes = self.suffixes or ("",) * len(self.seeds)
        seeds = tuple(seed for seed in self.seeds for _ in range(count))
        numbers = tuple(f"{before}{which}{k}" for before in suffixes for k in range(count))
        return Randomness(seeds, self.device, numbers, self.step_draws)

    def rows(self, start: int, stop: int) -> Randomness:
        """Draws for some of the images."""
        seeds, suffixes = self.seeds[start:stop], self.suffixes[start:stop]
        return Randomness(seeds, self.device, suffixes, self.step_draws)

    def _generators(self, purpose: str, step: int) -> list[torch.Generator]:
        suffixes = self.suffixes or ("",) * len(self.seeds)
        pairs = zip(self.seeds, suffixes, strict=True)
        return [generator(seed, purpose + suffix, step) for seed, suffix in pairs]

    def normal(self, purpose: str, shape: Sequence[int], *, step: int = 0) -> Tensor:
        """Standard normal numbers `(b, *shape)`."""
        return self._drawn("normal", purpose, tuple(shape), step)

    def uniform(self, purpose: str, shape: Sequence[int], *, step: int = 0) -> Tensor:
        """Uniform numbers in [0, 1), `(b, *shape)`."""
        return self._drawn("uniform", purpose, tuple(shape), step)

    def _drawn(self, kind: Distribution, purpose: str, shape: tuple[int, ...], step: int) -> Tensor:
        step_draws = None
        if self.step_draws is not None:
            step_draws = self.step_draws.of(kind, self, purpose, shape, step)
        if step_draws is None:
            return self.fresh(kind, purpose, shape, step=step).to(self.device)
        return step_draws

    def fresh(
        self, kind: Distribution, purpose: str, shape: tuple[int, ...], *, step: int
    ) -> Tensor:
        """The draw, on the CPU."""
        draw = torch.randn if kind == "normal" else torch.rand
        # CUDA's generators give other numbers, and a seed would mean another picture there.
        return torch.stack([draw(shape, generator=g) for g in self._generators(purpose, step)])

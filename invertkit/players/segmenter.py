"""The encoder–decoder that learns where the object is, from one photograph and its mask."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, Literal, final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from invertkit.errors import InputError
from invertkit.models.patch_nets import EncoderDecoder, NormKind
from invertkit.normalization import Space, in_space
from invertkit.players.base import Player
from invertkit.randomness import Randomness, generator
from invertkit.schedules import Count, Decay, Index, Positive
from invertkit.view import Scene


@final
class Segmenter(Player):
    """Trained by Adam on the cross-entropy between its map of the reference and the mask.

    One network serves all images: it learns from the reference alone.

    Args:
        when: `before`: `updates` updates before the first step of a stage, then frozen (the
            paper); `during`: one update on each of the run's first `updates` steps (the released
            code, where it starts untrained).
        updates: How many.
        width: Channels of the network.
        norm: `instance` or `batch` (as released; the images of a batch then share statistics).
        space: Units in which it sees the image; `imagenet` as released.
        lr: Adam's learning rate.
        betas: Adam's.
        seed: Of its initial weights; not the run's, so that every image meets the same network.

    Source: MAGIC θ_ED. `during` with 9,999 updates is what made the published pictures.
    """

    def __init__(
        self,
        *,
        when: Literal["before", "during"] = "before",
        updates: Index = 300,
        width: Count = 64,
        norm: NormKind = "instance",
        space: Space = "unit",
        lr: Positive = 5e-4,
        betas: tuple[Decay, Decay] = (0.5, 0.999),
        seed: int = 0,
    ) -> None:
        self.when, self.updates, self.width, self.norm = when, updates, width, norm
        self.space, self.lr, self.betas, self.seed = space, lr, betas, seed
        self.net: EncoderDecoder | None = None
        self._optimizer: torch.optim.Adam | None = None
        self._reference: Tensor | None = None
        self._mask: Tensor | None = None

    def begin(self, scene: Scene, randomness: Randomness, *, purpose: str) -> None:
        if scene.reference is None or scene.mask is None:
            raise InputError("`segmenter` learns from a reference and its mask; give both.")
        self._reference = in_space(scene.reference, self.space)
        self._mask = scene.mask
        if self.net is None:
            weights = generator(self.seed, f"{purpose}/weights")
            self.net = EncoderDecoder(width=self.width, norm=self.norm, generator=weights)
            self.net.to(randomness.device).requires_grad_(False)
        self._optimizer = torch.optim.Adam(self.net.parameters(), lr=self.lr, betas=self.betas)
        if self.when == "before":
            for _ in range(self.updates):
                self._update()

    def logits(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1 h w"]:
        """Positive where it sees the object."""
        if self.net is None:
            raise InputError("`segmenter` was asked before its stage began.")
        # Frozen passes are fastest with channels last, weight gradients with channels first.
        seen = in_space(images, self.space).contiguous(memory_format=torch.channels_last)
        logits: Tensor = self.net(seen)
        return logits

    def learn(self, images: Float[Tensor, "b 3 h w"], *, step: int) -> None:
        if self.when == "during" and step < self.updates:
            self._update()

    def _update(self) -> None:
        if self.net is None or self._optimizer is None or self._mask is None:
            return
        self.net.requires_grad_(True)
        self._optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(self.net(self._reference), self._mask).backward()
        self._optimizer.step()
        self.net.requires_grad_(False)

    def save(self) -> dict[str, Any]:
        saved = {
            "net": self.net.state_dict() if self.net else {},
            "optimizer": self._optimizer.state_dict() if self._optimizer else {},
        }
        return deepcopy(saved)  # PyTorch hands out the tensors that the next update changes

    def load(self, saved: dict[str, Any]) -> None:
        if self.net is not None and self._optimizer is not None:
            self.net.load_state_dict(saved["net"])
            self._optimizer.load_state_dict(deepcopy(saved["optimizer"]))

"""The encoder–decoder that learns where the object is, from one photograph and its mask."""

from __future__ import annotations

from typing import Literal, final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from invertkit.core.pixel_space import Space, in_space
from invertkit.core.precision import networks
from invertkit.core.randomness import Randomness, generator
from invertkit.core.ranges import Count, Decay, Index, Positive
from invertkit.core.recording.fused_adam import FusedAdam
from invertkit.core.scene import Scene
from invertkit.errors import InputError
from invertkit.models.segmenters.encoder_decoder import EncoderDecoder
from invertkit.models.stacked.normed_leaky import NormKind
from invertkit.players.stacked import StackedPlayer


@final
class Segmenter(StackedPlayer[EncoderDecoder]):
    """Trained by Adam on the cross-entropy between its map of the reference and the mask.

    One network serves all images of a photograph: it learns from the reference alone. Where a
    batch holds images of several photographs, each photograph has a network of its own, which
    learns as it would alone.

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
        mask: Name of the mask that it learns, of the first image.

    Example:
        >>> from invertkit.core.images.inputs import Inputs
        >>> mask = torch.zeros(1, 1, 16, 16)
        >>> mask[..., 4:12, 4:12] = 1
        >>> scene = Scene((16, 16), Inputs.of({"image": mask.expand(1, 3, -1, -1), "mask": mask}))
        >>> segmenter = Segmenter(updates=2, width=4)
        >>> segmenter.begin(scene, Randomness((0,)), purpose="players/segmenter")
        >>> segmenter.logits(torch.rand(2, 3, 16, 16)).shape
        torch.Size([2, 1, 16, 16])

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
        mask: str = "mask",
    ) -> None:
        super().__init__(updates=updates, space=space, lr=lr, betas=betas)
        self.when, self.width, self.norm, self.seed, self.mask = when, width, norm, seed, mask
        self._reference: Tensor | None = None
        self._mask: Tensor | None = None

    def begin(self, scene: Scene, randomness: Randomness, *, purpose: str) -> None:
        if scene.reference is None or scene.inputs.find(self.mask) is None:
            raise InputError("`segmenter` learns from a reference and its mask; give both.")
        self._precision = scene.precision
        photographs = scene.photographs()
        references = [each.reference for each in photographs if each.reference is not None]
        self._reference = in_space(torch.cat(references), self.space)
        self._mask = torch.cat([each.inputs.need(self.mask) for each in photographs])
        if self.net is None:
            self.net = EncoderDecoder(
                width=self.width,
                norm=self.norm,
                generators=[generator(self.seed, f"{purpose}/weights") for _ in photographs],
            ).to(randomness.device)
        self._optimizer = FusedAdam(self.net.learnt(), lr=self.lr, betas=self.betas)
        if self.when == "before":
            for _ in range(self.updates):
                self._update()

    def logits(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1 h w"]:
        """Positive where it sees the object."""
        return self._outputs(images)

    def learns(self, step: int) -> bool:
        return self.when == "during" and step < self.updates

    def learn(self, images: Float[Tensor, "b 3 h w"], *, step: int) -> None:
        if self.learns(step):
            self._update()

    def _update(self) -> None:
        if self.net is None or self._optimizer is None:
            return
        assert self._reference is not None  # noqa: S101 # by `begin`
        assert self._mask is not None  # noqa: S101
        weights = self.net.learnt()
        # Frozen but for its own updates: the image's backward must not compute slopes of weights.
        for weight in weights:
            weight.requires_grad_(True)
        self._optimizer.zero_grad()
        with torch.enable_grad():
            # A backward for each photograph's network where that is quicker; gradients add up.
            for which in self.net.turns(self._reference.device):
                with networks(self._precision, self._reference.device):
                    logits = self.net(self._reference[which], which)
                losses = F.binary_cross_entropy_with_logits(
                    logits.to(self._reference.dtype), self._mask[which], reduction="none"
                )
                losses.flatten(1).mean(1).sum().backward()
        self._optimizer.step()
        for weight in weights:
            weight.requires_grad_(False)
        self._optimizer.zero_grad()

    @property
    def updates_before(self) -> int:
        """All of them, or none where it learns during the run."""
        return self.updates if self.when == "before" else 0

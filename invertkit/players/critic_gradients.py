"""The gradient of a patch critic's Wasserstein loss with gradient penalty, written out.

The loss of one critic D is

    mean D(fake) - mean D(real) + penalty · P(∇ₓ D),   P = mean (‖∇ₓ D‖ - 1)²,

the penalty taken at images between real and fake. Its gradient needs no autograd of autograd:
with v = ∂(penalty · P)/∂(∇ₓ D), held constant,

    ∂/∂θ penalty · P = ∂/∂θ ⟨∇ₓ D, v⟩ = ∂/∂θ (derivative of D along v),

so v goes forward through the derivative of the critic, and what comes back is an ordinary
gradient. Fake, real and mixed images share the passes, or where images are quickest one by one
each has its own, and the gradients are added.

A critic without norm is linear but for the sides of its LeakyReLUs, so that nothing more comes
back: one pass forward, one backward, one along v, one for the weights. The derivative of a norm
depends on its input, which costs the mixed images one more pass backward and one for the weights.
Nothing is computed that is not used: autograd of autograd sends zeros through a critic without
norm, and takes weight gradients of strided convolutions a row and a column too large.

Source: Gulrajani et al. 2017 (arXiv:1704.00028) Eq. 3; the pixel form is SinGAN's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from invertkit.models.critics.patch_critic import PatchCriticNet
from invertkit.models.stacked.normed_leaky import SLOPE, leaky
from invertkit.models.stacked.stack import ALL, Layer, beside
from invertkit.players.critic_norms import Blocks, NormPass, normalised

aten = torch.ops.aten

PenaltyForm = Literal["pixel", "sample"]
"""`pixel`: of the gradient of the *sum* of scores, the norm over the channels of every pixel is
driven to 1 (released). `sample`: of the gradient of each image's *mean* score, the norm of the
whole (the standard)."""


@torch.no_grad()
def critic_gradients(
    net: PatchCriticNet,
    fake: Float[Tensor, "b 3 h w"],
    real: Float[Tensor, "#b 3 h w"],
    mix: Float[Tensor, "#b 1 1 1"],
    *,
    penalty: float,
    form: PenaltyForm,
    which: slice = ALL,
) -> list[Tensor]:
    """The gradients of each network's loss, in the order of `net.learnt()`.

    Args:
        net: The critics.
        fake: Images; of several critics each has its own, a single one has all.
        real: One row where all images have the same reference.
        mix: The share of the reference in the mixed images.
        penalty: Weight of the penalty.
        form: Of the penalty.
        which: Of the critics; the images are theirs alone.
    """
    count = len(range(net.networks)[which])
    if len(real) < count:
        real = real.expand(count, -1, -1, -1)
    groups = [_Group(beside(fake, count), 1.0), _Group(beside(real, count), -1.0)]
    if penalty:
        groups.append(_Group(beside(mix * real + (1 - mix) * fake, count), None))
    groups = [replace(group, total=len(group.rows)) for group in groups]
    batches = [groups]
    if net.one_by_one(fake.device):
        batches = [[part] for group in groups for part in group.parts(net)]
    # Means over all rows are taken inside, by each group's `total`, so that parts just add up.
    total, *others = (
        _gradients(net, batch, which, penalty=penalty, form=form) for batch in batches
    )
    for more in others:
        for gradient, added in zip(total, more, strict=True):
            gradient.add_(added)
    return total


@final
@dataclass(frozen=True)
class _Group:
    """Fake, real or mixed images.

    Args:
        rows: Of all critics, side by side.
        sign: Of their mean score in the loss; None for the mixed ones, which are penalised.
        total: Rows over which the loss takes the mean.
    """

    rows: Float[Tensor, "r n3 h w"]
    sign: float | None
    total: int = 0

    def parts(self, net: PatchCriticNet) -> list[_Group]:
        """Rows that do not depend on each other."""
        size = len(self.rows) if net.couples else 1
        return [replace(self, rows=rows) for rows in self.rows.split(size)]


def _gradients(
    net: PatchCriticNet,
    groups: Sequence[_Group],
    which: slice,
    *,
    penalty: float,
    form: PenaltyForm,
) -> list[Tensor]:
    """What some images, the mixed ones last, add to the gradients."""
    mixed = sum(len(group.rows) for group in groups if group.sign is None)
    judged = sum(len(group.rows) for group in groups) - mixed
    # Rows that a batch norm couples share statistics with their group alone: fake, real or mixed.
    blocks: Blocks = [(judged + mixed, 1)]
    if net.couples and judged + mixed > len(groups):
        blocks = [(len(group.rows), len(group.rows)) for group in groups]

    passes = [_Pass(layer, which, judged, mixed) for layer in net.stack]
    features = torch.cat([group.rows for group in groups]) if len(groups) > 1 else groups[0].rows
    for each in passes[:-1]:
        features = each.forward(features, blocks)
    passes[-1].entered = features

    passes[-1].slope = _slope_of_scores(passes[-1], groups, form)
    for lower, upper in zip(passes[-2::-1], passes[:0:-1], strict=True):
        lower.backward(upper.to_input(upper.slope, upper.entered), upper.entered)
    if mixed:
        first = passes[0]
        steepness = first.to_input(first.slope[-mixed:], first.entered[-mixed:])
        weight = penalty / groups[-1].total
        _penalise(passes, _pull(steepness, passes[0].networks, weight=weight, form=form))
    return [gradient for each in passes for gradient in each.gradients()]


def _slope_of_scores(last: _Pass, groups: Sequence[_Group], form: PenaltyForm) -> Tensor:
    """Of the mean scores, with their signs, and of what the penalty takes the gradient of."""
    height, width = last.size()
    slopes = []
    for group in groups:
        value = 1.0 if form == "pixel" else 1 / (height * width)
        if group.sign is not None:
            value = group.sign / (group.total * height * width)
        shape = (len(group.rows), last.networks, height, width)
        slopes.append(last.entered.new_full(shape, value))
    return torch.cat(slopes) if len(slopes) > 1 else slopes[0]


def _pull(
    steepness: Float[Tensor, "m n3 h w"], networks: int, *, weight: float, form: PenaltyForm
) -> Float[Tensor, "m n3 h w"]:
    """The derivative of weight · Σ mean (‖gradient‖ - 1)², over rows, by the gradient."""
    gradients = steepness.unflatten(1, (networks, -1))
    dims = (2,) if form == "pixel" else (2, 3, 4)
    length = torch.linalg.vector_norm(gradients, dim=dims, keepdim=True)
    share = (length - 1) / length * (2 * weight / length[0, 0].numel())
    # Where the gradient is 0 its direction is not defined; autograd's norm has slope 0 there too.
    pull: Tensor = gradients * share.masked_fill_(length == 0, 0)
    return pull.flatten(1, 2)


def _penalise(passes: Sequence[_Pass], tangent: Tensor) -> None:
    """Send the tangent up the layers, and what the norms make of it down again."""
    last = passes[-1]
    outputs = [upper.entered[-last.mixed :] for upper in passes[1:]]
    for each, output in zip(passes, outputs, strict=False):
        tangent = each.forth(tangent, output)
    last.tangent = tangent
    if not any(each.normed for each in passes):
        for each in passes:
            each.linear()
        return
    for each in passes:
        each.count(each.slope[-each.mixed :], each.tangent)
    last.slope, last.entered = last.slope[: last.judged], last.entered[: last.judged]
    bent: Tensor | None = None
    for number in range(len(passes) - 2, -1, -1):
        each = passes[number]
        each.bend(bent, outputs[number])
        if number:
            bent = each.to_input(each.slope[-each.mixed :], outputs[number - 1])


@final
class _Pass:
    """One layer while a batch of fake, real and, at its end, mixed rows goes through it.

    Attributes:
        entered: Its input.
        slope: By what its convolution gives: of the loss; of the mixed rows first that of the
            scores, and after `bend` that of their derivative along the tangent.
        tangent: How the input of the mixed rows moves.
    """

    entered: Tensor
    slope: Tensor
    tangent: Tensor

    def __init__(self, layer: Layer, which: slice, judged: int, mixed: int) -> None:
        self.layer, self.which, self.judged, self.mixed = layer, which, judged, mixed
        self.networks = len(layer.weight[which])
        self.kernels = layer.kernels(which)
        self.normed: NormPass | None = None
        self._of_weight: Tensor | None = None

    def size(self) -> tuple[int, int]:
        """Height and width of what the convolution gives."""
        kernel, stride = self.kernels.shape[-1], self.layer.stride
        height, width = ((side - kernel) // stride + 1 for side in self.entered.shape[-2:])
        return height, width

    def forward(self, features: Tensor, blocks: Blocks) -> Tensor:
        """Convolved, normalised and activated."""
        self.entered = features
        features = self.layer.convolved(features, self.which)
        if self.layer.norm != "none":
            scale, shift = self.layer.scale[self.which], self.layer.shift[self.which]
            features, norm = normalised(features, scale.flatten(), shift.flatten(), blocks)
            self.normed = NormPass(norm, self.mixed)
        return leaky(features)

    def backward(self, slope: Tensor, output: Tensor) -> None:
        """From the slope by the output to that by what the convolution gives."""
        slope = aten.leaky_relu_backward(slope, output, SLOPE, True)
        self.slope = slope if self.normed is None else self.normed.backward(slope)

    def forth(self, tangent: Tensor, output: Tensor) -> Tensor:
        """How the output of the mixed rows moves."""
        self.tangent = tangent
        moved = F.conv2d(tangent, self.kernels, None, self.layer.stride, groups=self.networks)
        if self.normed is not None:
            moved = self.normed.forth(moved)
        movement: Tensor = aten.leaky_relu_backward(moved, output, SLOPE, True)
        return movement

    def bend(self, slope: Tensor | None, output: Tensor) -> None:
        """The slope of the derivative along the tangent, from that by the output, if any."""
        if self.normed is not None:
            if slope is not None:
                slope = aten.leaky_relu_backward(slope, output, SLOPE, True)
            bent = self.normed.bend(slope)
            if self.judged:
                self.slope[-self.mixed :].copy_(bent)
            else:
                self.slope = bent

    def linear(self) -> None:
        """Without norms the tangent stands where the mixed rows stood, and that is all."""
        if self.judged:
            self.entered[-self.mixed :].copy_(self.tangent)
        else:
            self.entered = self.tangent

    def to_input(self, slope: Tensor, entered: Tensor) -> Tensor:
        """From the slope by what the convolution gives to that by what entered."""
        gradient: Tensor = self._backward(slope, entered, [True, False, False])[0]
        return gradient

    def count(self, slope: Tensor, entered: Tensor) -> None:
        """Add to the gradient of the kernels."""
        gradient: Tensor = self._backward(slope, entered, [False, True, False])[1]
        known = self._of_weight
        self._of_weight = gradient if known is None else known.add_(gradient)

    def _backward(self, slope: Tensor, entered: Tensor, wanted: list[bool]) -> tuple[Tensor, ...]:
        steps, none = [self.layer.stride] * 2, [0, 0]
        gradients: tuple[Tensor, ...] = aten.convolution_backward(
            slope, entered, self.kernels, None, steps, none, [1, 1], False, none,
            self.networks, wanted,
        )  # fmt: skip
        return gradients

    def gradients(self) -> list[Tensor]:
        """Of the layer's `learnt()`, of the networks in question."""
        if len(self.slope) or self._of_weight is None:
            self.count(self.slope, self.entered)
        assert self._of_weight is not None  # noqa: S101 # now it is
        gradients = [self._of_weight]
        if self.normed is None:
            gradients.append(self.slope[: self.judged].sum((0, 2, 3)))
        else:
            gradients += [self.normed.of_scale, self.normed.of_shift]
        return [gradient.unflatten(0, (self.networks, -1)) for gradient in gradients]

"""Feature blending: what a generator has of one picture inside the making of another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from invertkit.core.images.resampling import moved
from invertkit.core.images.resize import resize_image
from invertkit.errors import InputError, ShapeError
from invertkit.models.generators.class_maps import ClassMap, row_of
from invertkit.models.generators.class_weights import SOFTEN, soften
from invertkit.models.generators.generator import Generator
from invertkit.models.generators.layer_choice import LayerChoice, layer_strengths

Latents = Mapping[str, Tensor | ClassMap]


@final
@dataclass(frozen=True, eq=False)
class FeatureSource:
    """A picture whose features are blended in.

    Args:
        latents: By name, `(b, …)`, or one row for all.
        mask: Where, in the result, in [0, 1], at any size.
        levels: At which of `blend_levels`, and how strongly.
        shift: Of its features before they are blended, to the right and down, in sides.

    Raises:
        ShapeError: The mask is no `(b, 1, h, w)`.
        InputError: The mask leaves [0, 1].
    """

    latents: Latents
    mask: Float[Tensor, "#b 1 _ _"]
    levels: LayerChoice = "all"
    shift: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        if self.mask.ndim != 4 or self.mask.shape[1] != 1:
            raise ShapeError(f"mask: expected (b, 1, h, w), got {tuple(self.mask.shape)}.")
        if not bool(((self.mask >= 0) & (self.mask <= 1)).all()):
            raise InputError("mask: of a feature blend is in [0, 1].")


def blend_levels(generator: Generator) -> tuple[str, ...]:
    """The layers whose features can be blended, from the first map on.

    Raises:
        InputError: The network does not say; `levels`, a tuple of names of layers that put out
            `(b, c, h, w)`, is all that it needs.

    Example:
        >>> from invertkit.models.generators.open import embedded_generator
        >>> blend_levels(embedded_generator())[:2]
        ('start', 'blocks.0')
    """
    levels = getattr(generator.net, "levels", ())
    if not levels or not all(isinstance(name, str) for name in levels):
        raise InputError(
            f"{generator.description} does not say where its features can be blended: give its "
            f"network, {type(generator.net).__name__}, an attribute `levels`, the names of layers "
            "that put out (b, c, h, w), such as ('blocks.0', 'blocks.1')."
        )
    return tuple(levels)


@torch.no_grad()
def blended(
    generator: Generator,
    latents: Latents,
    sources: Sequence[FeatureSource],
    *,
    strength: float = 1.0,
    softened_by: float = SOFTEN,
) -> Float[Tensor, "b 3 h w"]:
    """A picture with features of others in it.

    All pictures are made side by side. After each level the features of the target become
    F = Σ M_i ⊙ U_i(F_i) over the sources and the target itself, whose mask M_0 is what the others
    leave of 1; U_i is the shift. Where a shifted source does not reach, the target stays.

    Args:
        generator: That draws.
        latents: Of the target, `(b, …)` by name; it begins as this picture and keeps its class.
        sources: What is blended in, and where.
        strength: Factor of all levels' strengths, in [0, 1].
        softened_by: Deviation of the Gaussian over the masks, as a share of the side.

    Raises:
        InputError: The network has no levels, or masks overlap to more than 1.

    Example:
        >>> from invertkit.models.generators.open import embedded_generator
        >>> generator = embedded_generator()
        >>> one, other = ({"latent": torch.randn(1, generator.latents["latent"].shape[0]),
        ...                "embedding": generator.tables["embedding"][:1]} for _ in range(2))
        >>> everywhere = FeatureSource(other, torch.ones(1, 1, 4, 4))
        >>> torch.allclose(blended(generator, one, [everywhere]), generator.generate(**other))
        True

    Source: Suzuki et al. 2018, §3.2, Eq. 3, and the released code, which lacks the shift. There the
    target begins as zeros and takes the first level from the source; that is the same picture.
    """
    names = blend_levels(generator)
    sizes = _sides(generator, names, latents)
    masks = _masks(sources, softened_by)
    strengths = [
        [strength * each for each in layer_strengths(source.levels, [min(s) for s in sizes])]
        for source in sources
    ]

    def blend(module: nn.Module, inputs: Any, output: Tensor, *, level: int) -> Tensor:
        weights = [
            levels[level] * resize_image(mask, sizes[level]).to(output)
            for levels, mask in zip(strengths, masks, strict=True)
        ]
        return _with_target(output, weights, [source.shift for source in sources])

    count = len(next(iter(latents.values())))
    rows = _joined(generator, [latents, *(source.latents for source in sources)], count)
    with _hooked(generator.net, names, blend):
        return generator.generate(**rows)[:count]


def _with_target(
    features: Float[Tensor, "n c h w"],
    weights: Sequence[Float[Tensor, "_ 1 h w"]],
    shifts: Sequence[tuple[float, float]],
) -> Float[Tensor, "n c h w"]:
    """Features of all pictures, the target first, after the others have entered it."""
    target, *streams = features.chunk(len(weights) + 1)
    rest, total = torch.ones_like(features[:1, :1]), torch.zeros_like(target)
    for stream, weight, shift in zip(streams, weights, shifts, strict=True):
        total = total + weight * moved(stream, shift)
        rest = rest - weight * moved(torch.ones_like(features[:1, :1]), shift)
    # Rounding may leave a little less than nothing; where nothing is blended, rest is 1.
    return torch.cat([target * rest.clamp(min=0) + total, *streams])


@contextmanager
def _hooked(net: nn.Module, names: Sequence[str], change: Any) -> Iterator[None]:
    """While it lasts, what the layers put out is changed; `change` is told their number."""
    hooks = []
    try:
        for level, name in enumerate(names):
            module = net.get_submodule(name)
            hooks.append(module.register_forward_hook(partial(change, level=level)))
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _sides(generator: Generator, names: Sequence[str], latents: Latents) -> list[tuple[int, int]]:
    """Height and width of the features of every level."""
    one = {name: row_of(latents[name], 0) for name in generator.latents}
    features = generator.features(names, **one)
    return [(features[name].shape[-2], features[name].shape[-1]) for name in names]


def _joined(generator: Generator, streams: Sequence[Latents], count: int) -> dict[str, Any]:
    """The latents of all pictures under one another."""
    rows = {}
    for name in generator.latents:
        parts = []
        for part in (stream[name] for stream in streams):
            if isinstance(part, ClassMap):
                raise InputError(
                    f"{name}: features are blended between pictures of one class each; a class "
                    "map is no part of a blend."
                )
            parts.append(part.expand(count, *part.shape[1:]))
        rows[name] = torch.cat(parts)
    return rows


def _masks(sources: Sequence[FeatureSource], softened_by: float) -> list[Float[Tensor, "_ 1 _ _"]]:
    """The masks of the sources, softened, and together nowhere above 1."""
    if not sources:
        raise InputError("references: a blend needs at least one other picture.")
    shapes = {tuple(source.mask.shape[-2:]) for source in sources}
    if len(shapes) > 1:
        raise ShapeError(f"masks: are of one size; got {' and '.join(map(str, sorted(shapes)))}.")
    total = torch.stack([source.mask for source in sources]).sum(0)
    if float(total.max()) > 1 + 1e-4:
        share = float((total > 1 + 1e-4).float().mean())
        raise InputError(
            f"masks: overlap on {share:.1%} of the picture, where they would weigh more than 1 "
            "together. Cut one of them; holes are fine, and keep the picture's own features."
        )
    return [soften(source.mask, softened_by, normalize=False) for source in sources]

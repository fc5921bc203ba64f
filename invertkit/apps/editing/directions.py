"""Ways to move a latent: towards another class, along what varies most, or by a wanted change."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, final

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from invertkit.core.images.resize import resize_image
from invertkit.core.randomness import generator as random_numbers
from invertkit.core.recording.fused_adam import FusedAdam
from invertkit.errors import InputError, ShapeError
from invertkit.models.generators.generator import Generator
from invertkit.variables.transforms.spatial import Spatial

Steering = Literal["shift_x", "shift_y", "zoom"]

REACH: dict[Steering, float] = {"shift_x": 0.2, "shift_y": 0.2, "zoom": 0.4}
"""How far a walk is trained, to both sides: shifts in sides of the picture, zoom in log scale."""

_CHUNK = 256
_SIDE = 32


@final
@dataclass(frozen=True)
class _Draws:
    """Random numbers of one purpose: of the same seed, purpose and step, the same."""

    seed: int
    purpose: str
    step: int = 0

    def numbers(self, latent: str = "") -> torch.Generator:
        """A generator for the leading latent and what goes with it, or for another latent."""
        return random_numbers(self.seed, f"{self.purpose} {latent}".rstrip(), self.step)


def class_blend(
    embedding: Float[Tensor, "b ..."], new: Float[Tensor, " *shape"], strength: float
) -> Float[Tensor, "b ..."]:
    """`α c_new + (1 - α) c`: 0 leaves the class, 1 is the new one, exactly; beyond exaggerates.

    Raises:
        ShapeError: The embeddings are not of one length.

    Example:
        >>> class_blend(torch.zeros(1, 2), torch.tensor([2.0, 4.0]), 0.5)
        tensor([[1., 2.]])

    Source: Huh et al. 2020, §4.3 and the released code.
    """
    if embedding.shape[1:] != new.shape:
        raise ShapeError(
            f"Class embeddings of one length are blended; got {tuple(embedding.shape)} and "
            f"{tuple(new.shape)}."
        )
    return strength * new + (1 - strength) * embedding


@final
@dataclass(frozen=True)
class Principal:
    """What varies most in a layer, and the latent directions that move it.

    Args:
        directions: Unit columns, in deviations of the leading latent, its numbers end to end; a
            standard normal z has deviation 1 along each.
        components: Orthonormal rows in the space of the layer's features.
        variances: Of the features along each component, falling.
    """

    directions: Float[Tensor, "z n"]
    components: Float[Tensor, "n d"]
    variances: Float[Tensor, " n"]


def principal_directions(
    generator: Generator,
    *,
    samples: int = 4096,
    count: int = 16,
    layer: str | None = None,
    seed: int = 0,
) -> Principal:
    """Latent directions of the principal components of a layer's features.

    Each class's mean is taken out of its features, so that no component is a change of class.
    Then the leading latent, in deviations z from its mean, is regressed on the coordinates along
    the components, `z ≈ U x`, and the columns of U are scaled to unit length. Signs: the largest
    entry of each column is positive.

    The released code keeps the class means in, finds U by 100 Adam steps of rate 1 that decays
    by 0.98 where least squares have a solution, and scales the rows of U and not its columns, so
    that its directions have a length near √(z / n), 2 for the published sizes.

    Args:
        generator: Whose latents; those that do not lead are drawn too, classes in turn.
        samples: How many pictures are looked at.
        count: How many components.
        layer: Layer that is looked at; by default the generator's own choice, and its pictures, at
            most 32 pixels a side, where it has none.
        seed: Of the latents.

    Raises:
        InputError: More components than samples or features.
        TapError: The layer does not exist.

    Example:
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Linear(2, 3 * 4 * 4), nn.Unflatten(1, (3, 4, 4)))
        >>> generator = Generator(net, latents={"z": 2})
        >>> principal_directions(generator, samples=16, count=2).directions.shape
        torch.Size([2, 2])

    Source: GANSpace, Härkönen et al. 2020, §3; in Huh et al. 2020 as "latent directions".
    """
    layer = generator.feature_layer if layer is None else layer
    numbers = generator.latents[generator.leading].numbers
    draws = _Draws(seed, "principal directions")
    deviates = torch.randn(samples, numbers, generator=draws.numbers())
    labels = torch.arange(samples) % max(1, len(generator.classes))
    features = _features(generator, layer, deviates, labels, draws)
    most = min(*features.shape, numbers)
    if not 0 < count <= most:
        of = f"layer {layer!r}" if layer else "its pictures"
        raise InputError(
            f"count: expected 1 to {most} components of {of} from {samples} samples, got {count}."
        )
    for label in labels.unique().tolist():
        features[labels == label] -= features[labels == label].mean(0)
    return _regressed(deviates.double(), features.numpy(), count, seed)


def _regressed(
    deviates: Float[Tensor, "n d"], features: np.ndarray[Any, Any], count: int, seed: int
) -> Principal:
    """The components of features `(n, f)`, and the directions of deviates that move them."""
    from sklearn.decomposition import PCA

    analysis = PCA(count, svd_solver="randomized", random_state=seed).fit(features)
    places = torch.from_numpy(analysis.transform(features)).double()
    solved = torch.linalg.lstsq(places, deviates - deviates.mean(0)).solution.T
    directions = solved / solved.norm(dim=0)
    # A component has no sign of its own: without a rule it would turn with the linear algebra.
    largest = directions.gather(0, directions.abs().argmax(0, keepdim=True))
    return Principal(
        (directions * largest.sign()).float(),
        _tensor(analysis.components_) * largest.sign().T.float(),
        _tensor(analysis.explained_variance_),
    )


@torch.no_grad()
def _features(
    generator: Generator,
    layer: str,
    deviates: Float[Tensor, "n d"],
    labels: Int[Tensor, " n"],
    draws: _Draws,
) -> Float[Tensor, "n f"]:
    """Features of a layer, or small pictures, a row for each sample."""
    rows = []
    chunks = zip(deviates.split(_CHUNK), labels.split(_CHUNK), strict=True)
    for step, (z, of_class) in enumerate(chunks):
        latents = _latents(generator, z, of_class, replace(draws, step=step))
        output = generator.features([layer], **latents)[layer]
        if not layer:
            height, width = output.shape[-2:]
            output = resize_image(output, (min(_SIDE, height), min(_SIDE, width)))
        wide = torch.promote_types(output.dtype, torch.float32)  # NumPy knows no bfloat16
        rows.append(output.flatten(1).to("cpu", wide))
    return torch.cat(rows)


def _latents(
    generator: Generator,
    deviates: Float[Tensor, "b d"],
    labels: Int[Tensor, " b"],
    draws: _Draws,
) -> dict[str, Float[Tensor, "b ..."]]:
    """Every latent: the leading one as told, class embeddings by class, the others drawn."""
    leading, tables = generator.leading, generator.tables
    latents = {}
    for name, spec in generator.latents.items():
        if name in tables:
            latents[name] = tables[name][labels.to(generator.like.device)]
            continue
        rows = deviates
        if name != leading:
            # Of a generator of its own: one more latent must not change what the leading one draws.
            rows = torch.randn(len(deviates), spec.numbers, generator=draws.numbers(name))
        latents[name] = spec.placed(rows.to(generator.like).reshape(-1, *spec.shape))
    return latents


def _tensor(values: np.ndarray[Any, Any]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).float()


@final
@dataclass(frozen=True)
class Walk:
    """A latent direction that was learned for a change of the picture.

    Args:
        direction: `z + α · direction` changes the picture by α: a share of its side to the right
            or downwards, or the logarithm of how much larger things get. In deviations of the
            leading latent, its numbers end to end.
        loss: Mean squared distance to the wanted pictures, of latents that it was not learned on.
        still: The same for the direction 0.
    """

    direction: Float[Tensor, " z"]
    loss: float
    still: float


def steering_directions(
    generator: Generator,
    edit: Steering,
    *,
    steps: int = 200,
    batch: int = 8,
    lr: float = 0.2,
    seed: int = 0,
) -> Walk:
    """Learn the direction w with `G(z + α w, c) ≈ edit(G(z, c), α)`.

    Latents are drawn as they begin, z leading, classes random, α uniform within `REACH`. What the
    edit brings in from beyond the picture's edge does not count.

    Args:
        generator: Whose latents.
        edit: Which change.
        steps: Of Adam; none leaves the direction 0.
        batch: Pictures a step.
        lr: Adam's rate, falling to 0 as a cosine.
        seed: Of latents, classes and strengths.

    Raises:
        InputError: An unknown edit, or a batch without pictures.

    Example:
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Linear(2, 3 * 4 * 4), nn.Unflatten(1, (3, 4, 4)))
        >>> generator = Generator(net, latents={"z": 2})
        >>> steering_directions(generator, "zoom", steps=1).direction.shape
        torch.Size([2])

    Source: Jahanian et al. 2020, "On the steerability of generative adversarial networks", eq. 2,
    linear walk with the L2 loss. There z, α and c are drawn as here; the rate is 0.001 over
    20,000 pictures.
    """
    if edit not in REACH:
        raise InputError(f"edit: expected {', '.join(REACH)}, got {edit!r}.")
    if steps < 0 or batch < 1:
        raise InputError(f"expected steps ≥ 0 and batch ≥ 1, got {steps} and {batch}.")
    numbers = generator.latents[generator.leading].numbers
    direction = generator.like.new_zeros(numbers).requires_grad_()
    optimizer = FusedAdam([direction], lr=lr)
    for step in range(steps):
        optimizer.set_rate(lr * (1 + float(np.cos(np.pi * step / steps))) / 2)
        loss = _distance(generator, edit, direction, batch, _Draws(seed, f"steer {edit}", step))
        (direction.grad,) = torch.autograd.grad(loss, direction)
        optimizer.step()
    with torch.no_grad():
        learned, still = (
            float(_distance(generator, edit, w, 64, _Draws(seed, f"held out {edit}")))
            for w in (direction, torch.zeros_like(direction))
        )
    return Walk((direction.detach() / REACH[edit]).cpu(), learned, still)


def _distance(
    generator: Generator,
    edit: Steering,
    direction: Float[Tensor, " d"],
    batch: int,
    draws: _Draws,
) -> Float[Tensor, ""]:
    """Masked mean squared distance of walked pictures to the edited ones."""
    like, draw = generator.like, draws.numbers()
    deviates = torch.randn(batch, len(direction), generator=draw).to(like)
    strength = (2 * torch.rand(batch, generator=draw) - 1).to(like)
    labels = torch.randint(max(1, len(generator.classes)), (batch,), generator=draw)
    latents = partial(_latents, generator, labels=labels, draws=draws)
    with torch.no_grad():
        pictures = generator.generate(**latents(deviates))
        wanted, counts = edited(pictures, edit, strength * REACH[edit])
    walked = generator.generate(**latents(deviates + strength[:, None] * direction))
    return (counts * (walked - wanted).square()).sum() / (3 * counts.sum())


def edited(
    pictures: Float[Tensor, "b 3 h w"], edit: Steering, strength: Float[Tensor, " b"]
) -> tuple[Float[Tensor, "b 3 h w"], Float[Tensor, "b 1 h w"]]:
    """Pictures shifted or zoomed by α, and 1 where all of a pixel comes from within them.

    Args:
        pictures: In [0, 1].
        edit: Which change.
        strength: α of each: a share of the side, or the logarithm of the zoom.

    Example:
        >>> line = torch.tensor([0.0, 0.2, 0.4, 0.6]).expand(1, 3, 4, 4)
        >>> moved, counts = edited(line, "shift_x", torch.tensor([0.25]))
        >>> moved[0, 0, 0], counts[0, 0, 0]
        (tensor([0.0000, 0.0000, 0.2000, 0.4000]), tensor([0., 1., 1., 1.]))
    """
    spatial = Spatial()
    zero = torch.zeros_like(strength)
    # The transform says where each pixel comes from: to enlarge is to read from a smaller part.
    scale = torch.exp(-strength) if edit == "zoom" else torch.ones_like(strength)
    across = -2 * strength if edit == "shift_x" else zero
    down = -2 * strength if edit == "shift_y" else zero
    parameters = torch.stack([scale, across, down], 1)
    height, width = pictures.shape[-2:]
    reach = spatial.coverage(parameters, (height, width), (height, width))
    moved = spatial.apply(pictures, parameters, (height, width))
    return moved, (reach > 0.999).to(moved)

"""Which source patch belongs where: mask registration and nearest-neighbour search."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from invertkit.core.recording.fused_adam import FusedAdam

_SIDE = 64  # of the masks while they are registered
_CONTROL = 5  # control points along each axis
_STEPS = 150
_STIFFNESS = 0.5


def grid(size: tuple[int, int], like: Tensor) -> Float[Tensor, "1 2 h w"]:
    """Coordinates (x, y) of pixel centres, in [0, 1] along each axis.

    Args:
        size: Height and width.
        like: On whose device, and of whose kind, they shall be.

    Example:
        >>> grid((1, 2), torch.zeros(0)).flatten(2)[0].T.tolist()
        [[0.25, 0.5], [0.75, 0.5]]
    """
    rows = (torch.arange(size[0], device=like.device, dtype=like.dtype) + 0.5) / size[0]
    columns = (torch.arange(size[1], device=like.device, dtype=like.dtype) + 0.5) / size[1]
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack([x, y])[None]


def register_masks(
    mask: Float[Tensor, "1 1 h w"], target: Float[Tensor, "1 1 h w"]
) -> Float[Tensor, "1 2 h w"]:
    """For every point of the target, where in the source mask it belongs, as `grid` coordinates.

    The boxes around the two masks are laid on each other, and a smooth displacement (5×5 control
    points, bicubic) is fitted so that the source mask, pulled back, covers the target. For a mask
    that was only moved, the displacement is 0 and the map is exact.

    Args:
        mask: Binary, not empty.
        target: Binary, not empty.

    Example:
        >>> mask = torch.zeros(1, 1, 8, 8)
        >>> mask[..., 2:4, 2:4] = 1
        >>> place = register_masks(mask, mask.roll(3, -1))[0, :, 2, 5]  # of pixel (5, 2)
        >>> (8 * place).tolist()  # the centre of pixel (2, 2)
        [2.5, 2.5]
    """
    size = (mask.shape[-2], mask.shape[-1])
    (low, high), (to_low, to_high) = _box(mask), _box(target)

    def boxes(points: Tensor) -> Tensor:
        return (points - to_low) / (to_high - to_low) * (high - low) + low

    small = (min(_SIDE, size[0]), min(_SIDE, size[1]))
    source, wanted = _softened(mask, small), _softened(target, small)
    start = boxes(grid(small, mask))
    rows, columns = _spline(small[0], mask), _spline(small[1], mask)
    shift = mask.new_zeros(1, 2, _CONTROL, _CONTROL, requires_grad=True)
    optimizer = FusedAdam([shift], lr=3e-3)
    with torch.enable_grad():
        for _ in range(_STEPS):
            places = start + rows @ shift @ columns.T
            pulled = F.grid_sample(
                source, (2 * places - 1).permute(0, 2, 3, 1), align_corners=False
            )
            bend = shift.diff(dim=-1).square().mean() + shift.diff(dim=-2).square().mean()
            loss = (pulled - wanted).square().mean() + _STIFFNESS * bend
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    smooth = _spline(size[0], mask) @ shift.detach() @ _spline(size[1], mask).T
    return boxes(grid(size, mask)) + smooth


def _box(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Lower and upper corner (x, y) of what the mask covers, each `(1, 2, 1, 1)`."""
    inside = (mask[0, 0] > 0.5).nonzero().to(mask.dtype)
    size = mask.new_tensor([mask.shape[-2], mask.shape[-1]])
    low, high = inside.min(0).values / size, (inside.max(0).values + 1) / size
    return low.flip(0).reshape(1, 2, 1, 1), high.flip(0).reshape(1, 2, 1, 1)


def _softened(mask: Tensor, size: tuple[int, int]) -> Tensor:
    small = F.interpolate(mask, size, mode="area")
    return F.avg_pool2d(F.pad(small, (2, 2, 2, 2)), 5, 1)


def _spline(count: int, like: Tensor) -> Float[Tensor, "n k"]:
    """Matrix that carries `_CONTROL` values to `count` points, bicubic."""
    unit = torch.eye(_CONTROL, device=like.device, dtype=like.dtype)[None, None]
    return F.interpolate(unit, (count, _CONTROL), mode="bicubic", align_corners=True)[0, 0]


def choose_keys(
    distances: Float[Tensor, "q k"],
    queries: Int[Tensor, " q"],
    keys: Int[Tensor, " k"],
    size: tuple[int, int],
    *,
    coherence: float = 1.0,
    passes: int = 4,
) -> tuple[Float[Tensor, " q"], Int[Tensor, " q"]]:
    """The key of every query, and its distance: the nearest, with a liking for coherent pieces.

    Args:
        distances: Between every query and every key, not negative.
        queries: Flat pixel positions of the queries.
        keys: Flat pixel positions of the keys.
        size: Height and width that the positions count in.
        coherence: A key that continues the offset of a neighbouring query's key competes with its
            distance times this; 1 for the plain nearest. Pieces then come over whole, and
            overlapping votes agree instead of blurring.
        passes: How often the neighbours' offsets are tried.

    Source: coherence search after Ashikhmin 2001 and PatchMatch's propagation, Barnes et al. 2009.

    Example:
        >>> distances = torch.tensor([[0.0, 9.0], [0.4, 0.5]])  # key 0 is nearest to both
        >>> where = torch.tensor([0, 1])
        >>> choose_keys(distances, where, where, (1, 2))[1].tolist()
        [0, 0]
        >>> choose_keys(distances, where, where, (1, 2), coherence=0.5)[1].tolist()
        [0, 1]
    """
    rows = torch.arange(len(queries), device=distances.device)
    chosen = distances.min(1).indices
    if coherence >= 1:
        return distances[rows, chosen], chosen
    height, width = size
    key_at = torch.full((height * width,), -1, device=distances.device)
    key_at[keys] = torch.arange(len(keys), device=distances.device)
    y, x = queries // width, queries % width
    beside = _neighbours(y, x, size)
    for _ in range(passes):
        down, right = keys[chosen] // width - y, keys[chosen] % width - x
        to_y, to_x = y + down[beside], x + right[beside]
        inside = (beside >= 0) & (to_y >= 0) & (to_y < height) & (to_x >= 0) & (to_x < width)
        place = to_y.clamp(0, height - 1) * width + to_x.clamp(0, width - 1)
        offered = torch.where(inside, key_at[place], -1)
        cost = (distances[rows, offered.clamp(min=0)] + _TIE) * coherence
        cost = torch.where(offered >= 0, cost, torch.inf)
        least, which = cost.min(0)
        better = least < distances[rows, chosen] + _TIE
        chosen = torch.where(better, offered[which, rows], chosen)
    return distances[rows, chosen], chosen


def _neighbours(
    y: Int[Tensor, " q"], x: Int[Tensor, " q"], size: tuple[int, int]
) -> Int[Tensor, "8 q"]:
    """Which queries lie around each query; -1 where there is none."""
    # A border of one pixel without queries, so that none is asked for beyond the image.
    query_at = torch.full((size[0] + 2, size[1] + 2), -1, device=y.device)
    query_at[y + 1, x + 1] = torch.arange(len(y), device=y.device)
    steps = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx]
    return torch.stack([query_at[y + 1 + dy, x + 1 + dx] for dy, dx in steps])


_TIE = 1e-6  # so that of equal distances the coherent one wins

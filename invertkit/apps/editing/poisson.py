"""Seamless cloning: the gradients of one picture inside the frame of another."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from invertkit.errors import InputError


@torch.no_grad()
def poisson_blend(
    background: Float[Tensor, "3 h w"],
    foreground: Float[Tensor, "3 h w"],
    mask: Float[Tensor, "1 h w"] | Bool[Tensor, "1 h w"],
    *,
    mixed: bool = False,
) -> Float[Tensor, "3 h w"]:
    """The foreground's gradients in the mask, joined to the background around it.

    Solves, for the pixels p of the mask, sum_q (u_p - u_q) = sum_q (g_p - g_q) over their up to
    four neighbours q in the image, where u is the background outside the mask. So u equals the
    background on the rim of the mask; where the mask touches the border of the image, there is
    nothing to equal and u leaves it with the foreground's slope. The mask may have several parts.

    Args:
        background: In [0, 1].
        foreground: In [0, 1], of the same size; pixels beside the mask count through their
            difference to those in it.
        mask: 1 where the foreground goes, else 0; neither empty nor full.
        mixed: Of the two gradients of a pair of pixels, take the larger one, channel by channel,
            so that texture of the background shows through where the foreground is plain.

    Returns:
        Dtype and device of the background. Outside the mask it is the background, bit for bit;
        inside, what was solved in float64, clamped to [0, 1].

    Raises:
        InputError: The sizes do not match, a number is not finite, or the mask is not binary, is
            empty, or is full: then no pixel says how bright the result shall be.

    Example:
        >>> background, dot = torch.full((3, 3, 3), 0.5), torch.zeros(3, 3, 3)
        >>> dot[:, 1, 1] = 0.1
        >>> mask = torch.zeros(1, 3, 3)
        >>> mask[:, 1, 1] = 1
        >>> poisson_blend(background, dot, mask)[0]  # as much lighter than what is around it
        tensor([[0.5000, 0.5000, 0.5000],
                [0.5000, 0.6000, 0.5000],
                [0.5000, 0.5000, 0.5000]])

    Source: Pérez, Gangnet & Blake 2003, "Poisson image editing", eqs. 7, 11 and 13.
    """
    _check(background, foreground, mask)
    inside = mask[0] > 0.5
    solved = _solve(
        background.double().cpu().numpy(),
        foreground.double().cpu().numpy(),
        inside.cpu().numpy(),
        mixed=mixed,
    )
    result = background.clone()
    result[:, inside.to(result.device)] = torch.from_numpy(solved.clip(0, 1)).to(result)
    return result


def _check(background: Tensor, foreground: Tensor, mask: Tensor) -> None:
    size = tuple(background.shape[-2:])
    shapes = {"background": (3, *size), "foreground": (3, *size), "mask": (1, *size)}
    for (name, shape), given in zip(shapes.items(), (background, foreground, mask), strict=True):
        if tuple(given.shape) != shape:
            raise InputError(
                f"{name}: expected a tensor of shape {shape}, the size of the background, got "
                f"{tuple(given.shape)}."
            )
        bad = int((~given.isfinite()).sum())
        if bad:
            raise InputError(
                f"{name}: has {bad} value{'s' if bad > 1 else ''} that are NaN or infinite; "
                "expected floats in [0, 1]."
            )
    if not bool(((mask == 0) | (mask == 1)).all()):
        raise InputError("mask: expected 0 and 1 only; threshold it first.")
    if not bool(mask.any()):
        raise InputError("mask: is empty: no pixel is 1, so there is nothing to blend.")
    if bool(mask.all()):
        raise InputError(
            "mask: is full: every pixel is 1, so no background is left to join the foreground to."
        )


def _solve(
    background: np.ndarray[Any, Any],
    foreground: np.ndarray[Any, Any],
    inside: np.ndarray[Any, Any],
    *,
    mixed: bool,
) -> np.ndarray[Any, Any]:
    """The pixels of the mask, row by row: `(3, n)`."""
    from scipy.sparse import csc_array
    from scipy.sparse.linalg import splu

    count = int(inside.sum())
    number = np.cumsum(inside).reshape(inside.shape) - 1
    known = np.zeros((3, count))
    neighbours = np.zeros(count)
    rows, columns = [np.arange(count)], [np.arange(count)]
    every, front, back = slice(None), slice(None, -1), slice(1, None)
    for p, q in [
        ((front, every), (back, every)),
        ((back, every), (front, every)),
        ((every, front), (every, back)),
        ((every, back), (every, front)),
    ]:
        inner = inside[p]
        at = number[p][inner]
        slope = (foreground[:, *p] - foreground[:, *q])[:, inner]
        if mixed:
            other = (background[:, *p] - background[:, *q])[:, inner]
            slope = np.where(np.abs(other) > np.abs(slope), other, slope)
        known[:, at] += slope
        neighbours[at] += 1
        rim = inner & ~inside[q]
        known[:, number[p][rim]] += background[:, *q][:, rim]
        both = inner & inside[q]
        rows.append(number[p][both])
        columns.append(number[q][both])
    values = np.concatenate([neighbours, -np.ones(sum(map(len, rows)) - count)])
    matrix = csc_array((values, (np.concatenate(rows), np.concatenate(columns))))
    # The matrix is symmetric and diagonally dominant: no pivoting, and its own pattern orders it.
    factor = splu(matrix, permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True})
    solved: np.ndarray[Any, Any] = factor.solve(known.T.copy()).T
    return solved

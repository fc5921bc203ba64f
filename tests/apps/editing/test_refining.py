from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from invertkit.apps.editing.directions import REACH, Steering, edited
from invertkit.apps.editing.refining import refined
from invertkit.errors import InputError
from invertkit.models.generators.generator import Generator
from invertkit.models.generators.latents import ClassEmbedding, LatentSpec
from tests.helpers import normal

SIDE = 12


class Blob(nn.Module):
    """A spot whose place is a bent function of z; the class is its colour, and `tint` lifts all."""

    def __init__(self) -> None:
        super().__init__()
        self.colours = nn.Parameter(torch.tensor([[1.0, 0.2, 0.1], [0.1, 0.3, 1.0]]).double())

    def forward(self, z: Tensor, colour: Tensor, tint: Tensor) -> Tensor:
        axis = torch.linspace(0, 1, SIDE).double()
        place = 0.5 + 0.4 * torch.sin(z[:, :2] * torch.tensor([1.0, -0.7]).double())
        away = (axis - place[..., None]).square().div(0.03).neg().exp()
        spot = away[:, 1, :, None] * away[:, 0, None, :]
        return colour[:, :, None, None] * spot[:, None] + 0.1 * tint[:, :, None, None]


def blob() -> Generator:
    net = Blob()
    latents: dict[str, Any] = {
        "z": LatentSpec((3,), limit=2.0),
        "colour": ClassEmbedding(net.colours.detach(), names=("red", "blue")),
        "tint": 1,
    }
    return Generator(net, latents=latents, output=(0.0, 1.0))


def latents(count: int, seed: int = 0) -> dict[str, Tensor]:
    generator = blob()
    z = normal(count, 3, seed=seed).double().clamp(-1, 1)
    return {
        "z": z,
        "colour": generator.tables["colour"][torch.arange(count) % 2],
        "tint": normal(count, 1, seed=seed + 1).double(),
    }


@settings(deadline=None, max_examples=15)
@given(
    seed=st.integers(0, 99),
    move=st.sampled_from(sorted(REACH)),
    steps=st.integers(0, 6),
)
def test_it_ends_no_farther_than_either_end_of_the_walk(
    seed: int, move: Steering, steps: int
) -> None:
    generator, start = blob(), latents(3, seed)
    walked = {**start, "z": start["z"] + normal(3, 3, seed=seed + 2).double() / 3}
    amounts = torch.tensor([0.1, 0.0, -0.15]).double()
    found = refined(generator, start, walked, {move: amounts}, steps=steps)
    wanted, counts = edited(generator.generate(**start), move, amounts)
    for ends, losses in ((start, found.still), (found.latents, found.losses)):
        away = (counts * (generator.generate(**ends) - wanted).square()).sum((1, 2, 3))
        torch.testing.assert_close(away / (3 * counts.sum((1, 2, 3))), losses)
    at_walk = refined(generator, start, walked, {move: amounts}, steps=0).losses
    assert (found.losses <= found.still).all()
    assert (found.losses <= at_walk).all()
    assert torch.equal(found.latents["tint"], start["tint"])
    for name in ("z", "colour"):  # nothing moves the second
        assert torch.equal(found.latents[name][1], start[name][1])


@pytest.mark.parametrize("move", ["shift_x", "shift_y"])
def test_a_bent_walk_is_found_where_no_straight_one_serves(move: Steering) -> None:
    """A spot is moved as asked, by each latent's own way."""
    generator, start = blob(), latents(6)
    start["z"] = start["z"] / 2  # where the spot can still go farther
    amounts = torch.linspace(-0.15, 0.15, 6).double()
    found = refined(generator, start, start, {move: amounts}, steps=120)
    assert (found.losses.sum() / found.still.sum()).item() < 0.05
    assert (found.latents["z"].abs() <= 2).all()


def test_moves_follow_one_another_and_the_edge_does_not_count() -> None:
    """The slow way: the picture is moved twice, and so is a white one that shows what counts."""
    generator, start = blob(), latents(2)
    moves: dict[Steering, Tensor] = {
        "shift_x": torch.tensor([0.25, -0.1]).double(),
        "zoom": torch.tensor([-0.3, 0.2]).double(),
    }
    found = refined(generator, start, start, moves, steps=0)
    pictures = generator.generate(**start)
    once, inside = edited(pictures, "shift_x", moves["shift_x"])
    twice, within = edited(once, "zoom", moves["zoom"])
    seen = (edited(inside.expand(-1, 3, -1, -1), "zoom", moves["zoom"])[0] > 0.999)[:, :1]
    counts = (seen & (within > 0)).double()
    away = (counts * (pictures - twice).square()).sum((1, 2, 3)) / (3 * counts.sum((1, 2, 3)))
    torch.testing.assert_close(found.still, away)
    assert 0 < counts.mean() < 1
    assert math.isfinite(found.losses.sum().item())


def test_fewer_steps_than_none_are_refused() -> None:
    with pytest.raises(InputError, match="refine: expected steps ≥ 0, got -1"):
        refined(blob(), latents(1), latents(1), {"zoom": torch.zeros(1).double()}, steps=-1)

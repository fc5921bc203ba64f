from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from invertkit.apps.editing.compose import BlendRegion, Placing, compose, generate, region_of
from invertkit.errors import InputError
from invertkit.variables.transforms.colour import Brightness
from invertkit.variables.transforms.composition import Composition
from invertkit.variables.transforms.spatial import Spatial
from tests.helpers import normal, uniform
from tests.latents import generator64

SIZES = st.tuples(st.integers(12, 20), st.integers(12, 20))
WHOLE = Composition((Brightness(), Spatial()))


def placing(scale: float = 1.3, x: float = 0.1, y: float = -0.2, light: float = 1.2) -> Placing:
    return Placing(WHOLE, torch.tensor([[light, scale, x, y]]))


def blot(size: tuple[int, int], seed: int) -> Tensor:
    return (uniform(1, *size, seed=seed, dtype=torch.float32) < 0.4).float()


@given(
    size=SIZES,
    seed=st.integers(0, 999),
    scale=st.floats(0.5, 1.5),
    shift=st.floats(-0.4, 0.4),
    region=st.sampled_from(["mask", "box"]),
    mixed=st.booleans(),
)
def test_outside_the_region_every_bit_stays(
    size: tuple[int, int],
    seed: int,
    scale: float,
    shift: float,
    region: BlendRegion,
    *,
    mixed: bool,
) -> None:
    photograph = uniform(3, *size, seed=seed, dtype=torch.float32)
    pictures = uniform(2, 3, 8, 8, seed=seed + 1, dtype=torch.float32)
    mask, before = blot(size, seed), photograph.clone()
    where = placing(scale, shift, -shift)
    _, reached = where.back(pictures, size)
    allowed = mask > 0.5 if region == "mask" else torch.ones_like(mask) > 0
    assume((allowed & reached).any())
    try:
        images, inside = compose(
            photograph, pictures, mask, placing=where, region=region, mixed=mixed
        )
    except InputError as error:
        assert "is full" in str(error)  # noqa: PT017
        return
    assert not (inside & ~allowed).any()
    assert not (inside & ~reached).any()
    for image in images:
        outside = ~inside.expand_as(image)
        assert torch.equal(image[outside].view(torch.int32), before[outside].view(torch.int32))
    assert torch.equal(photograph, before)
    assert 0 <= images.min() <= images.max() <= 1


def test_a_photograph_s_own_picture_comes_back_where_it_was() -> None:
    y, x = (torch.linspace(0, 3, 32) for _ in range(2))
    wave = 0.4 + 0.2 * torch.sin(x + y[:, None])
    photograph = torch.stack([wave, wave * 0.9, 0.8 - wave])
    where = placing(0.8, 0.05, 0.1, light=1.1)
    assert where.parameters is not None
    seen = WHOLE.apply(photograph[None], where.parameters, (32, 32))
    mask = torch.zeros(1, 32, 32)
    mask[:, 10:22, 8:24] = 1
    (image,), inside = compose(photograph, seen, mask, placing=where)
    assert torch.equal(inside, mask > 0.5)
    torch.testing.assert_close(image, photograph, atol=0.01, rtol=0)


def test_without_a_transform_the_picture_covers_everything() -> None:
    picture = uniform(1, 3, 8, 8, dtype=torch.float32)
    placed, reached = Placing().back(picture, (16, 12))
    assert placed.shape == (1, 3, 16, 12)
    assert reached.all()


def test_the_edge_of_the_picture_is_not_blended_in() -> None:
    grey = torch.full((1, 3, 8, 8), 0.5)
    placed, reached = placing(0.5, light=1.0).back(grey, (40, 40))
    assert 0 < reached.float().mean() < 1
    around = torch.nn.functional.max_pool2d(reached.float()[None], 3, 1, 1)[0] > 0
    torch.testing.assert_close(placed[0][:, around[0]], torch.full((3, int(around.sum())), 0.5),
                               atol=1e-3, rtol=0)  # fmt: skip


def test_a_box_is_a_little_larger_than_the_object() -> None:
    mask = torch.zeros(1, 60, 60)
    mask[0, 10:30, 20], mask[0, 15, 20:60] = 1, 1
    box = region_of(mask, torch.ones(1, 60, 60) > 0, "box")
    rows, columns = box[0].nonzero().T
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (9, 30, 18, 59)
    assert box.sum() == 22 * 42


def test_a_region_of_no_pixel_is_told() -> None:
    mask, nowhere = torch.ones(1, 4, 4), torch.zeros(1, 4, 4) > 0
    with pytest.raises(InputError, match="does not reach the mask"):
        region_of(mask, nowhere)
    with pytest.raises(InputError, match="mask: is empty in the part"):
        region_of(1 - mask, ~nowhere)


def test_a_region_of_every_pixel_is_told() -> None:
    photograph, mask = torch.zeros(3, 16, 16), torch.ones(1, 16, 16)
    mask[0, 0, 0] = 0
    with pytest.raises(InputError, match=r"The box is full: .* Use the region `mask`\."):
        compose(photograph, torch.zeros(1, 3, 8, 8), mask, placing=Placing(), region="box")


def test_pictures_are_generated_a_few_at_a_time_and_the_same() -> None:
    generator = generator64()
    latent, embedding = normal(11, 5), normal(11, 4)
    latents = {"latent": latent, "embedding": embedding}
    many = generate(generator, latents)
    torch.testing.assert_close(many, generator.generate(latent=latent, embedding=embedding))
    change = 0.1 * normal(1, generator.tunable_size())
    one = generate(generator, latents, change)[:1]
    first = {name: rows[:1] for name, rows in latents.items()}
    torch.testing.assert_close(one, generator.generate_with(change, **first))
    assert not torch.allclose(one, many[:1])

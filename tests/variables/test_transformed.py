from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from invertkit.core.randomness import Randomness
from invertkit.core.scene import Scene
from invertkit.errors import InputError, RecipeError
from invertkit.models.generators.generator import Generator
from invertkit.optimizers.torch_optim import Adam
from invertkit.variables.latent import Latent
from invertkit.variables.pixels import Pixels
from invertkit.variables.transformed import Transformed
from invertkit.variables.transforms.composition import Composition
from invertkit.variables.transforms.spatial import Spatial, spatial_start
from invertkit.variables.tuned import Tuned
from tests.helpers import normal, with_inputs
from tests.latents import (
    SEEDS,
    SMALL,
    begun,
    finished,
    latent_problem,
    latent_scene,
    latents,
)

COLOURS: tuple[Any, ...] = ("brightness", "contrast", "saturation", "hue", "gamma")


@pytest.mark.parametrize("start", ["mask", "published", "identity"])
@pytest.mark.parametrize("spatial", ["isotropic", "anisotropic"])
def test_the_transform_begins_at_the_mask(spatial: Any, start: Any) -> None:
    variable = Transformed(inner=latents(), spatial=spatial, colour=("hue", "gamma"), start=start)
    scene = latent_scene()
    transform = begun(variable, scene)["transform"]
    tint, where = transform.split([2, transform.shape[1] - 2], 1)
    assert torch.equal(tint, torch.tensor([[0.0, 1.0]] * 3).double())
    wide = spatial == "anisotropic"
    wanted = Spatial(anisotropic=wide).identity().double()
    if start != "identity":
        at = scene.models["generator"].statistics
        form: Any = "exact" if start == "mask" else "published"
        wanted = spatial_start(
            scene.inputs["mask"], centre=at.centre, size=at.size, anisotropic=wide, form=form
        )
    torch.testing.assert_close(where, wanted.expand(3, -1), rtol=1e-6, atol=1e-6)


def test_the_frame_holds_photograph_and_masks_as_each_row_moves_them() -> None:
    scene = latent_scene()
    variable = Transformed(inner=latents(), colour=("contrast",)).bind(scene.models)
    params = begun(variable, scene)
    params["transform"] = params["transform"] + 0.1 * normal(3, 4)
    frame = variable.frame(params, scene)
    assert frame.size == (8, 8)
    assert frame.kept == {}
    move, size = variable.transform, (8, 8)
    for i in range(3):
        row = params["transform"][i : i + 1]
        for mine, wanted in (
            (frame.reference, move.apply(scene.reference, row, size)),
            (frame.inputs["mask"], move.weights(scene.inputs["mask"], row, size)),
            (frame.inputs["target"], move.weights(scene.inputs["target"], row, size)),
        ):
            torch.testing.assert_close(mine[i : i + 1], wanted, rtol=1e-12, atol=1e-12)


def test_looks_are_the_generators_pictures_and_images_are_moved_back() -> None:
    scene = latent_scene()
    variable = Transformed(inner=latents()).bind(scene.models)
    params, randomness = begun(variable, scene), Randomness(SEEDS)
    raw = scene.models["generator"].generate(latent=params["latent"], embedding=params["embedding"])
    look = variable.look(params, scene, randomness, 0)
    assert torch.equal(look, raw)
    image = variable.image(params, scene)
    assert torch.equal(variable.still(look, params, scene), image)
    spatial = Composition([Spatial()])
    reach = spatial.invert_coverage(params["transform"], (8, 8), SMALL)
    wanted = spatial.invert(raw, params["transform"], SMALL) + 0.5 * (1 - reach)
    torch.testing.assert_close(image, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("colour", [(), *[(name,) for name in COLOURS], COLOURS])
def test_where_the_generator_does_not_reach_the_image_is_grey(colour: Any) -> None:
    """A picture of one colour, moved to a corner and recoloured: that colour, and grey."""
    variable, scene = Transformed(inner=latents(), colour=colour), latent_scene()
    count = len(colour)
    transform = variable.transform.identity().double()[None]
    transform[:, :count] = 0.8
    transform[:, count:] = torch.tensor([0.4, -0.5, 0.4])
    look = torch.tensor([0.3, 0.6, 0.4]).double().reshape(1, 3, 1, 1).expand(-1, -1, 8, 8)
    image = variable.still(look, {"transform": transform}, scene)
    reach = Spatial().invert_coverage(transform[:, count:], (8, 8), SMALL)
    assert (reach == 0).any()
    outside = (reach < 1e-9).expand_as(image)
    torch.testing.assert_close(image[outside], torch.full_like(image[outside], 0.5))
    inside = (reach > 1 - 1e-9).expand_as(image)
    assert inside.any()
    plain = Transformed(inner=latents(), colour=colour, spatial="none") if colour else None
    tint = {"transform": transform[:, :count]}
    tinted = look if plain is None else plain.still(look, tint, scene)
    torch.testing.assert_close(
        image[inside], tinted[..., :1, :1].expand_as(image)[inside], rtol=1e-6, atol=1e-9
    )
    low, high = torch.minimum(tinted.amin(), look.new_tensor(0.5)), max(0.5, float(tinted.max()))
    assert (image > low - 0.1).all()  # no dark seam between the two
    assert (image < high + 0.1).all()


def test_without_any_transform_the_photograph_is_seen_at_the_generators_size() -> None:
    scene = latent_scene()
    variable = Transformed(inner=latents(), spatial="none").bind(scene.models)
    params = begun(variable, scene)
    assert params["transform"].shape == (3, 0)
    frame = variable.frame(params, scene)
    assert frame.reference.shape[-2:] == frame.inputs["mask"].shape[-2:] == (8, 8)
    assert torch.equal(variable.image(params, scene), variable.inner.image(params, scene))


def test_what_a_transform_lacks_is_told() -> None:
    scene, variable = latent_scene(), Transformed(inner=latents())
    with pytest.raises(InputError, match="`start: mask` places the generator by a mask; give one"):
        begun(variable, with_inputs(scene, mask=None))
    with pytest.raises(InputError, match="A transform moves a reference; give an image"):
        finished(latent_problem((1, Adam()), variable=variable, scene=_without_reference))
    for inner in (Pixels(), variable):
        with pytest.raises(RecipeError, match=r"^inner: expected `latent`, a generator's latents"):
            Transformed(inner=inner)
    for inner in (Pixels(), Tuned(inner=latents())):
        with pytest.raises(RecipeError, match=r"^inner: expected `latent` or `transformed`"):
            Tuned(inner=inner)


def _without_reference(size: tuple[int, int]) -> Scene:
    return with_inputs(latent_scene(size), image=None)


def test_pictures_that_are_not_square_are_not_moved() -> None:
    net = nn.Sequential(nn.Linear(5, 3 * 4 * 6), nn.Unflatten(1, (3, 4, 6))).double()
    scene = latent_scene(generator=Generator(net, latents={"z": 5}))
    with pytest.raises(RecipeError, match=r"`transformed` moves square pictures, and .* are 4×6"):
        Transformed(inner=Latent()).bind(scene.models)
    assert Latent().bind(scene.models).image(begun(Latent(), scene), scene).shape[-2:] == SMALL

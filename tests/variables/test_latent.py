from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from invertkit.core.randomness import Randomness
from invertkit.errors import InputError, RecipeError, TapError
from invertkit.models.generators.conditional import ConditionalEncoder
from invertkit.models.generators.encoder import Encoder
from invertkit.variables.base import Variable
from invertkit.variables.latent import Latent
from invertkit.variables.transformed import Transformed
from invertkit.variables.tuned import Tuned
from tests.helpers import with_inputs
from tests.latents import (
    SEEDS,
    SMALL,
    begun,
    encoder64,
    generator64,
    latent_models,
    latent_scene,
    latents,
    plain_generator,
    style_generator,
    zeta_space,
)


@given(limit=st.floats(0.1, 3.0), noise=st.floats(0, 4), beyond=st.sampled_from(["clamp", "wrap"]))
def test_draws_are_within_the_limit(limit: float, noise: float, beyond: Any) -> None:
    latent = begun(latents(limit=limit, noise=noise, beyond=beyond))["latent"]
    draws = noise * Randomness(SEEDS).normal("start", (5,)).double()
    assert latent.dtype == torch.float64
    assert latent.abs().max() <= limit
    inside = draws.abs() < limit
    assert torch.equal(latent[inside], draws[inside])
    if beyond == "wrap":
        torch.testing.assert_close(latent, draws - limit * (draws / limit).trunc())
    else:
        assert (latent[~inside].abs() == limit).all()


def test_without_a_limit_draws_are_free_and_nothing_is_confined() -> None:
    variable = latents(limit=0, noise=9.0).bind(latent_models())
    params = begun(variable)
    before = params["latent"].clone()
    variable.confine(params)
    assert not variable.confines
    assert params["latent"].abs().max() > 3
    assert torch.equal(params["latent"], before)


def test_an_encoder_says_where_to_begin_of_the_picture_and_its_class() -> None:
    encoder, generator = encoder64(), generator64()
    scene = latent_scene(encoder=encoder, generator=generator)
    still = latents(start="encoder", noise=0.0, limit=0)
    latent = begun(still, scene)["latent"]
    seen = nn.functional.interpolate(
        scene.reference, (32, 32), mode="bilinear", align_corners=False, antialias=True
    )
    wanted = encoder.net(seen * 2 - 1, generator.tables["embedding"][1:2])
    torch.testing.assert_close(latent, wanted.expand(3, -1), rtol=1e-12, atol=1e-12)
    near = latents(start="encoder", noise=0.1, limit=0)
    draws = 0.1 * Randomness(SEEDS).normal("start", (5,)).double()
    torch.testing.assert_close(begun(near, scene)["latent"], latent + draws, rtol=1e-12, atol=1e-12)
    middle = near.bind(scene.models).centre(scene, Randomness(SEEDS))
    assert torch.equal(middle["latent"], latent)
    cut = begun(latents(start="encoder", limit=0.01), scene)["latent"]
    assert torch.equal(cut.abs().amax(), latent.new_tensor(0.01))
    moved = begun(Transformed(inner=still), scene)["latent"]
    assert not torch.allclose(moved, latent)  # it sees the photograph as the generator shall


def test_what_an_encoder_lacks_is_told() -> None:
    variable = latents(start="encoder")
    with pytest.raises(TapError, match="no encoder 'encoder' in `models`"):
        begun(variable)
    with pytest.raises(TapError, match="no encoder 'generator'"):
        begun(latents(start="encoder", encoder="generator"))
    scene = latent_scene(encoder=encoder64())
    with pytest.raises(InputError, match="`start: encoder` begins at a reference; give an image"):
        begun(variable, with_inputs(scene, image=None))
    other = latent_scene(encoder=encoder64(latent=7))
    with pytest.raises(
        InputError, match=r"a tiny encoder gives latent as \(7,\), and a tiny generator tak"
    ):
        begun(variable, other)
    wide = ConditionalEncoder(latent=5, embedding=9, widths=(8, 8, 8)).double()
    told = Encoder(wide, gives="latent", takes="embedding", size=32, description="a wide encoder")
    with pytest.raises(InputError, match="a wide encoder cannot be run on the classes of a tiny g"):
        begun(variable, latent_scene(encoder=told))
    named = Encoder(encoder64().net, gives="w", size=32, description="a tiny encoder")
    with pytest.raises(
        RecipeError, match="a tiny encoder gives w, and a tiny generator takes latent and embedding"
    ):
        begun(variable, latent_scene(encoder=named))


STARTS: list[Callable[[], Variable]] = [
    latents,
    lambda: Latent(embedding="random"),
    lambda: Latent(embedding="gaussian", beyond="wrap", limit=0.5),
    lambda: latents(start="encoder", noise=0.5),
    lambda: Transformed(inner=Latent(embedding="gaussian", start="encoder")),
    lambda: Tuned(inner=Transformed(inner=Latent(embedding="random"), spatial="anisotropic")),
]


@pytest.mark.parametrize("make", STARTS)
def test_every_seed_begins_alike_in_any_company_and_every_candidate_elsewhere(
    make: Callable[[], Variable],
) -> None:
    scene = latent_scene(encoder=encoder64())
    variable = make().bind(scene.models)
    together, alone = begun(variable, scene), begun(variable, scene, (5,))
    for name, many in together.items():
        one = alone[name]
        assert many.dtype == torch.float64
        torch.testing.assert_close(many[1:2], one, rtol=1e-12, atol=1e-12)
    found = [
        variable.start(scene, Randomness(SEEDS).candidates(4, tag))["latent"]
        for tag in ("", "generation0", "generation1", "centre")
    ]
    rows = torch.cat([together["latent"], *found])
    assert len(rows.unique(dim=0)) == len(rows)
    few = variable.start(scene, Randomness((5,)).candidates(4, "generation0"))
    torch.testing.assert_close(found[1][4:8], few["latent"], rtol=1e-12, atol=1e-12)


def test_a_candidate_alone_without_a_tag_is_the_image_itself() -> None:
    scene = latent_scene()
    plain, variable = begun(latents(), scene)["latent"], latents().bind(scene.models)
    assert torch.equal(variable.start(scene, Randomness(SEEDS).candidates(1))["latent"], plain)
    tagged = variable.start(scene, Randomness(SEEDS).candidates(1, "centre"))["latent"]
    assert not (tagged == plain).any()


def test_the_centre_is_the_start_without_its_noise() -> None:
    scene, randomness = latent_scene(encoder=encoder64()), Randomness(SEEDS)
    moved = Transformed(inner=latents()).bind(scene.models)
    assert not moved.inner.centre(scene, randomness)["latent"].any()
    first, middle = begun(moved, scene), moved.centre(scene, randomness)
    for name in ("embedding", "transform"):
        assert torch.equal(first[name], middle[name])
    assert not moved.centre(scene, randomness)["latent"].any()


def test_a_generator_without_classes_begins_at_its_latent_alone() -> None:
    scene = latent_scene(generator=plain_generator())
    variable = Latent().bind(scene.models)
    assert variable.names == ("z",)
    assert not variable.confines
    params = variable.start(scene, Randomness(SEEDS))
    torch.testing.assert_close(params["z"], Randomness(SEEDS).normal("start", (5,)).double())
    assert variable.image(params, scene).shape == (3, 3, *SMALL)


def test_every_latent_has_its_own_middle_noise_and_limit() -> None:
    mean = torch.linspace(-1, 1, 18).reshape(3, 6).double()
    scene = latent_scene(generator=style_generator(mean=mean, noise=2.0))
    variable = Latent(embedding="random", noise={"w": 0.5}, limit={"w": 0.25}).bind(scene.models)
    assert variable.names == ("w", "noise", "kind")
    params, draws = variable.start(scene, Randomness(SEEDS)), Randomness(SEEDS)
    w = 0.5 * draws.normal("start", (3, 6)).double()
    torch.testing.assert_close(params["w"], mean + 0.5 * w.clamp(-0.25, 0.25))
    noise = draws.normal("start of noise", (1, 8, 8)).double()
    torch.testing.assert_close(params["noise"], 2 * noise.clamp(-3, 3))  # as it is declared
    middle = variable.centre(scene, draws)
    assert torch.equal(middle["w"], mean.expand(3, -1, -1))
    assert torch.equal(middle["kind"], params["kind"])
    far = {name: param + 100 for name, param in params.items()}
    variable.confine(far)
    torch.testing.assert_close(far["w"], (mean + 0.25 * 0.5).expand(3, -1, -1))
    assert (far["noise"] == 6).all()
    assert torch.equal(far["kind"], params["kind"] + 100)


def test_an_encoder_gives_some_of_the_latents() -> None:
    class Net(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return image.mean((1, 2, 3))[:, None, None].expand(-1, 3, 6)

    encoder = Encoder(Net(), gives="w", size=8, description="a meter")
    scene = latent_scene(generator=style_generator(), encoder=encoder)
    variable = Latent(embedding="random", start="encoder", noise=0.0).bind(scene.models)
    params = variable.start(scene, Randomness(SEEDS))
    assert params["w"].unique().numel() == 1
    assert not params["noise"].any()


@pytest.mark.parametrize(
    ("options", "which", "sentence"),
    [
        ({"embedding": "given", "label": 1}, "plain", "^embedding: a plain generator has"),
        ({"embedding": "predicted"}, "plain", "no class embedding; leave out embedding, or write"),
        ({"label": "cat"}, "plain", "^label: a plain generator has no class embedding"),
        ({"noise": {"w": 1.0}}, "plain", "^noise: a plain generator has no latent 'w' be"),
        ({"limit": {"kind": 1.0}}, "style", "its classes; it has w and noise."),
    ],
)
def test_options_that_make_no_sense_for_a_generator_are_told(
    options: dict[str, Any], which: str, sentence: str
) -> None:
    made = {"plain": plain_generator, "style": style_generator}[which]()
    with pytest.raises(RecipeError, match=sentence):
        Latent(**options).bind(latent_models(generator=made))


def test_a_network_that_is_no_generator_yet_is_told_how_to_become_one() -> None:
    with pytest.raises(TapError, match=r"wrapped: `invertkit\.Generator\(net, latents=\{\"z\": 12"):
        Latent().bind(latent_models(generator=nn.Linear(5, 3)))
    assert Latent().names == ()
    with pytest.raises(InputError, match="This variable knows no generator yet: a `Problem` tel"):
        Latent().start(latent_scene(), Randomness(SEEDS))


def test_another_space_takes_the_place_of_the_latent() -> None:
    space, plain = zeta_space(), begun(latents())
    scene = latent_scene(zeta=space)
    variable = latents(space="zeta").bind(scene.models)
    params = variable.start(scene, Randomness(SEEDS))
    assert variable.names == tuple(params) == ("zeta", "embedding")
    rows = [space.expand(row[None]) for row in plain["latent"]]
    assert torch.equal(params["zeta"], torch.cat(rows))
    wanted = space.collapse(params["zeta"])
    assert torch.equal(
        variable.raw(params, scene),
        generator64().generate(latent=wanted, embedding=params["embedding"]),
    )
    kept = variable.result_tensors(params)
    assert tuple(kept) == ("zeta", "embedding", "latent")
    assert torch.equal(kept["latent"], wanted)
    assert latents().result_tensors(plain) is plain


def test_in_another_space_there_is_no_limit() -> None:
    scene = latent_scene(zeta=zeta_space())
    variable = latents(space="zeta", limit=0.01).bind(scene.models)
    params = variable.start(scene, Randomness(SEEDS))
    # The start is within the limit, and what the search does then is free.
    within = zeta_space().expand(begun(latents(limit=0.01))["latent"])
    torch.testing.assert_close(params["zeta"], within)
    assert not variable.confines


def test_in_another_space_an_encoder_says_where_to_begin() -> None:
    scene = latent_scene(zeta=zeta_space(), encoder=encoder64())
    start: dict[str, Any] = {"start": "encoder", "noise": 0.0, "limit": 0}
    zeta = begun(latents(space="zeta", **start), scene)["zeta"]
    torch.testing.assert_close(zeta, zeta_space().expand(begun(latents(**start), scene)["latent"]))


def test_transformed_and_tuned_latents_may_be_in_another_space() -> None:
    scene = latent_scene(zeta=zeta_space())
    inner = latents(space="zeta")
    params = begun(Tuned(inner=Transformed(inner=inner)), scene)
    assert tuple(params) == ("zeta", "embedding", "transform", "weights")
    variable = Tuned(inner=Transformed(inner=inner)).bind(scene.models)
    kept = variable.result_tensors(params)
    assert torch.equal(kept["latent"], zeta_space().collapse(params["zeta"]))
    assert variable.image(params, scene).shape == (3, 3, *SMALL)


def test_a_space_that_does_not_fit_is_told() -> None:
    with pytest.raises(TapError, match="space: no auxiliary space 'zeta' in `models`"):
        begun(latents(space="zeta"))
    for space in (zeta_space(latent=6), zeta_space(named="w")):
        with pytest.raises(RecipeError, match="space: a tiny auxiliary space stands for"):
            begun(latents(space="zeta"), latent_scene(zeta=space))

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call

from invertkit.core.images.inputs import Inputs
from invertkit.core.params import Params
from invertkit.core.randomness import Randomness
from invertkit.core.scene import Scene
from invertkit.engine.problem import Term
from invertkit.engine.run import Run
from invertkit.errors import InputError, RecipeError, TapError
from invertkit.models.classifiers.classifier import Classifier
from invertkit.models.generators.encoder import Encoder
from invertkit.models.generators.generator import Generator
from invertkit.models.generators.kitgan import KitEncoder
from invertkit.models.generators.latents import ClassEmbedding, latent_and_class
from invertkit.objectives.reference import PixelDistance, WeightDeviation
from invertkit.optimizers.torch_optim import Adam
from invertkit.variables.base import Variable
from invertkit.variables.latent import Latent
from invertkit.variables.pixels import Pixels
from invertkit.variables.transformed import Transformed
from invertkit.variables.transforms.composition import Composition
from invertkit.variables.transforms.spatial import Spatial, spatial_start
from invertkit.variables.tuned import Tuned
from tests.helpers import normal, with_inputs
from tests.latents import (
    SMALL,
    finished,
    generator64,
    latent_models,
    latent_problem,
    latent_scene,
    latents,
    plain_generator,
    style_generator,
)

NAMES = ("cat", "dog", "eel")
SEEDS = (3, 5, 8)
COLOURS: tuple[Any, ...] = ("brightness", "contrast", "saturation", "hue", "gamma")


def encoder64(latent: int = 5) -> Encoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        net = KitEncoder(latent=latent, embedding=4, widths=(8, 8, 8))
    return Encoder(
        net, gives="latent", takes="embedding", size=32, description="a tiny encoder"
    ).double()


def begun(variable: Variable, scene: Scene | None = None, seeds: Any = SEEDS) -> Params:
    at = latent_scene() if scene is None else scene
    return variable.bind(at.models).start(at, Randomness(tuple(seeds)))


# ---------------------------------------------------------------------- where it begins


@pytest.mark.parametrize(("label", "index"), [("dog", 1), (2, 2), ("2", 2), (0, 0)])
def test_a_class_is_given_by_name_or_number(label: Any, index: int) -> None:
    scene = latent_scene(generator=generator64(names=NAMES))
    embedding = begun(Latent(embedding="given", label=label), scene)["embedding"]
    assert embedding.shape == (3, 4)
    assert torch.equal(embedding, scene.models["generator"].tables["embedding"][[index] * 3])
    embedding[0] = 0  # a copy: the table is the generator's
    assert scene.models["generator"].tables["embedding"][index].any()


@pytest.mark.parametrize("label", ["dgo", "3", 3, -1, "-1", "²", "", "Dog"])
def test_an_unknown_class_is_told_with_those_there_are(label: Any) -> None:
    scene = latent_scene(generator=generator64(names=NAMES))
    with pytest.raises(InputError, match=r"^Unknown class .* of a tiny generator") as raised:
        begun(Latent(embedding="given", label=label), scene)
    assert str(raised.value).endswith("It has 3: cat, dog, eel.")
    assert ("Did you mean 'dog'?" in str(raised.value)) == (label in ("dgo", "Dog"))


def test_a_given_class_must_be_written() -> None:
    with pytest.raises(RecipeError, match=r"^label: `embedding: given` needs the class"):
        Latent(embedding="given")


def colour_classifier(names: tuple[str, ...], *, size: int = 8) -> Classifier:
    """Sees the first class in red, the second in green, the third in blue, and so on round."""

    class Net(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            means = image.mean((2, 3))
            return torch.stack([means[:, i % 3] + i // 3 for i in range(len(names) or 3)], 1)

    return Classifier(
        Net(), mean=(0, 0, 0), std=(1, 1, 1), classes=names, description="a colour meter", size=size
    )


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (("cat", "dog", "eel"), "dog"),
        (("eel", "cat", "dog"), "cat"),
        (("eel", "fox", "gnu", "cat"), "cat"),  # of those that both know, the likeliest
        (("fox", "gnu", "eel"), "eel"),  # though it sees a gnu
        ((), "dog"),  # without names, as many classes are the same classes
    ],
)
def test_the_class_is_predicted_by_name_from_the_object(
    names: tuple[str, ...], wanted: str
) -> None:
    """The object is green; what is around it is red."""
    scene = latent_scene(generator=generator64(names=NAMES), classifier=colour_classifier(names))
    mask = torch.zeros_like(scene.inputs["mask"])
    mask[:, :, 4:9, 3:8] = 1
    red, green = (torch.eye(3)[i].reshape(1, 3, 1, 1).double() for i in (0, 1))
    scene = with_inputs(scene, mask=mask, image=red * (1 - mask) + green * mask)
    expected = scene.models["generator"].tables["embedding"][[NAMES.index(wanted)] * 3]
    assert torch.equal(begun(Latent(), scene)["embedding"], expected)
    moved = replace(scene, kept={})
    assert torch.equal(begun(Transformed(inner=Latent()), moved)["embedding"], expected)


def test_without_a_mask_the_whole_picture_is_looked_at() -> None:
    scene = latent_scene(generator=generator64(names=NAMES), classifier=colour_classifier(NAMES))
    for mask in (None, torch.zeros(1, 1, *SMALL).double()):
        blue = torch.eye(3)[2].reshape(1, 3, 1, 1).double().expand(-1, -1, *SMALL)
        at = with_inputs(replace(scene, kept={}), mask=mask, image=blue)
        assert torch.equal(
            begun(Latent(), at)["embedding"], at.models["generator"].tables["embedding"][[2] * 3]
        )


def test_the_classifier_is_asked_once_a_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    scene, asked = latent_scene(classifier=colour_classifier(NAMES)), []
    classifier = scene.models["classifier"]
    scene.models["generator"].classes = NAMES
    plain = classifier.observe
    monkeypatch.setattr(classifier, "observe", lambda *a: asked.append(1) or plain(*a))
    for unbound in (Latent(), Transformed(inner=Latent())):
        begun(unbound, scene)
        variable = unbound.bind(scene.models)
        variable.start(scene, Randomness((1,)).candidates(4, "generation0"))
        variable.centre(scene, Randomness((1,)))
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"inputs": Inputs()}, InputError, "`embedding: predicted` looks at a reference; give"),
        ({"models": {"generator"}}, TapError, "no classifier 'classifier' in `models`"),
        ({"models": {"classifier"}}, TapError, "no generator 'generator' in `models`; .*: none"),
        ({}, InputError, "a tiny network knows none of them. Name the class, by `embedding: g"),
    ],
)
def test_what_a_prediction_lacks_is_told(
    change: dict[str, Any], error: type[Exception], message: str
) -> None:
    scene = latent_scene()
    if "models" in change:
        change = {"models": {n: m for n, m in scene.models.items() if n in change["models"]}}
    with pytest.raises(error, match=message):
        begun(Latent(), replace(scene, **change))


def test_a_generator_is_no_classifier_and_a_classifier_no_generator() -> None:
    with pytest.raises(TapError, match="'generator' is no classifier"):
        begun(Latent(classifier="generator"))
    with pytest.raises(
        TapError, match=r"no generator 'classifier' in .* generators there: generator"
    ):
        begun(latents(model="classifier"))


def test_random_classes_are_rows_of_the_table_and_each_has_its_turn() -> None:
    scene = latent_scene()
    embedding = begun(Latent(embedding="random"), scene, range(60))["embedding"]
    table = scene.models["generator"].tables["embedding"]
    which = (embedding[:, None] == table).all(2)
    assert (which.sum(1) == 1).all()
    assert which.any(0).all()


def test_gaussian_embeddings_have_the_moments_of_the_table() -> None:
    scene = latent_scene(generator=generator64(classes=7))
    embedding = begun(Latent(embedding="gaussian"), scene, range(600))["embedding"]
    table = scene.models["generator"].tables["embedding"]
    torch.testing.assert_close(embedding.mean(0), table.mean(0), rtol=0, atol=0.3)
    torch.testing.assert_close(embedding.std(0), table.std(0), rtol=0.12, atol=0)
    alone = latent_scene(generator=generator64(classes=1))
    assert begun(Latent(embedding="gaussian"), alone)["embedding"].isfinite().all()


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


# ---------------------------------------------------------------------- other latents


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


def test_one_class_serves_several_embeddings() -> None:
    net = nn.Sequential(nn.Linear(7, 3 * 8 * 8), nn.Unflatten(1, (3, 8, 8))).double()

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, fine: Tensor, z: Tensor, coarse: Tensor) -> Tensor:
            return net(torch.cat([fine, z, coarse], 1))

    tables = {"fine": ClassEmbedding(normal(4, 3), NAMES4), "coarse": ClassEmbedding(normal(4, 2))}
    taken = {"fine": tables["fine"], "z": 2, "coarse": tables["coarse"]}
    scene = latent_scene(generator=Generator(Both(), latents=taken))
    fixed = begun(Latent(embedding="given", label="d"), scene)
    assert list(fixed) == ["fine", "z", "coarse"]
    assert torch.equal(fixed["fine"], normal(4, 3)[3:].expand(3, -1))
    assert torch.equal(fixed["coarse"], normal(4, 2)[3:].expand(3, -1))
    drawn = begun(Latent(embedding="random"), scene, range(20))
    places = (drawn["fine"][:, None] == normal(4, 3)).all(2).nonzero()[:, 1]
    assert torch.equal(drawn["coarse"], normal(4, 2)[places])
    both = begun(Latent(embedding="gaussian"), scene)
    assert not torch.allclose(both["fine"][:, :2], both["coarse"])


NAMES4 = ("a", "b", "c", "d")


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


def test_pictures_that_are_not_square_are_not_moved() -> None:
    net = nn.Sequential(nn.Linear(5, 3 * 4 * 6), nn.Unflatten(1, (3, 4, 6))).double()
    scene = latent_scene(generator=Generator(net, latents={"z": 5}))
    with pytest.raises(RecipeError, match=r"`transformed` moves square pictures, and .* are 4×6"):
        Transformed(inner=Latent()).bind(scene.models)
    assert Latent().bind(scene.models).image(begun(Latent(), scene), scene).shape[-2:] == SMALL


# ---------------------------------------------------------------------- transforms


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


# ---------------------------------------------------------------------- weights


INNER: list[Callable[[], Any]] = [latents, lambda: Transformed(inner=latents(), colour=("hue",))]


@pytest.mark.parametrize("make", INNER)
def test_a_change_of_nothing_changes_nothing(make: Callable[[], Any]) -> None:
    scene, randomness = latent_scene(), Randomness(SEEDS)
    inner, tuned = (each.bind(scene.models) for each in (make(), Tuned(inner=make())))
    params = begun(tuned, scene)
    assert not params["weights"].any()
    assert tuned.names == (*inner.names, "weights")
    assert tuned.frame_names == inner.frame_names
    for name, wanted in begun(inner, scene).items():
        assert torch.equal(params[name], wanted)
    for mine, wanted in (
        (tuned.image(params, scene), inner.image(params, scene)),
        (tuned.look(params, scene, randomness, 0), inner.look(params, scene, randomness, 0)),
    ):
        torch.testing.assert_close(mine, wanted, rtol=1e-12, atol=1e-12)  # one at a time
    look = tuned.look(params, scene, randomness, 0)
    assert torch.equal(tuned.still(look, params, scene), tuned.image(params, scene))
    params["latent"] *= 9
    tuned.confine(params)
    assert params["latent"].abs().max() == 2


def test_every_image_has_weights_of_its_own_and_their_gradient() -> None:
    generator: Generator = generator64()
    latent, embedding = normal(2, 5), generator.tables["embedding"][[0, 2]]
    change = (0.05 * normal(2, generator.tunable_size())).requires_grad_()
    pictures = generator.generate_with(change, latent=latent, embedding=embedding)
    pull = normal(*pictures.shape, seed=7)
    (slope,) = torch.autograd.grad((pictures * pull).sum(), change)
    for i in range(2):
        weights = {
            name: weight.clone().requires_grad_()
            for name, weight in generator.net.named_parameters()
        }
        names, offset = generator.tunable(), 0
        assert set(weights) - set(names) == {"embeddings.weight"}
        changed = dict(weights)
        for name in names:
            size = weights[name].numel()
            part = change[i, offset : offset + size].detach().reshape(weights[name].shape)
            changed[name] = (weights[name] + part).detach().requires_grad_()
            offset += size
        assert offset == generator.tunable_size()
        picture = functional_call(generator.net, changed, (latent[i : i + 1], embedding[i : i + 1]))
        picture = picture / 2 + 0.5
        torch.testing.assert_close(pictures[i : i + 1], picture, rtol=1e-12, atol=1e-12)
        slopes = torch.autograd.grad((picture * pull[i]).sum(), [changed[n] for n in names])
        wanted = torch.cat([each.flatten() for each in slopes])
        torch.testing.assert_close(slope[i], wanted, rtol=1e-10, atol=1e-12)
    assert not any(weight.requires_grad for weight in generator.parameters())


def test_stages_hand_over_what_they_share_by_name() -> None:
    moved = Transformed(inner=latents())
    problem = latent_problem(
        (2, Adam(lr=0.1), latents()),
        (2, Adam(lr=0.1, over=("latent",)), moved),
        (2, Adam(lr=0.01, over=("weights",)), Tuned(inner=moved)),
        terms=(
            Term(PixelDistance(form="l2"), name="l2"),
            Term(WeightDeviation(), name="deviation", weight=1e-3, stages=("2",)),
        ),
    )
    named = [replace(stage, name=str(i)) for i, stage in enumerate(problem.stages)]
    run, found = Run(replace(problem, stages=named)), []
    before = moved.bind(problem.models).start(
        replace(problem.scene(SMALL), models=problem.models), Randomness(problem.seeds)
    )
    for report in run.steps():
        found.append((report.stage, {n: p.detach().clone() for n, p in run.params.items()}))
    first, second, last = (found[i][1] for i in (1, 3, 5))
    assert [len(each) for each in (first, second, last)] == [2, 3, 4]
    assert torch.equal(second["embedding"], first["embedding"])  # not a new one
    assert torch.equal(second["transform"], before["transform"])
    assert not torch.equal(second["latent"], first["latent"])
    for name, param in second.items():
        assert torch.equal(param, last[name])
    assert last["weights"].any()
    assert list(run.best_tensors()) == ["latent", "embedding", "transform", "weights"]


def test_stages_of_two_generators_do_not_hand_over() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        other = generator64()
        other.net.gen_z = nn.Linear(7 + 4, 8 * 16)
        other = Generator(other.net, latents=latent_and_class(7), size=8)
    problem = latent_problem(
        (1, Adam()), (1, Adam(), latents(model="other")), other=other, seeds=(0,)
    )
    with pytest.raises(
        InputError, match=r"Stage 2 takes over 'latent' as \(1, 5\) .* wants \(1, 7\)"
    ):
        finished(problem)

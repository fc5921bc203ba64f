from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from invertkit.core.images.inputs import Inputs
from invertkit.core.images.kinds import WordsKind
from invertkit.core.images.specs import InputSpec
from invertkit.core.randomness import Randomness
from invertkit.errors import InputError, RecipeError, TapError
from invertkit.models.classifiers.classifier import Classifier
from invertkit.models.generators.generator import Generator
from invertkit.models.generators.latents import ClassEmbedding
from invertkit.variables.latent import Latent
from invertkit.variables.transformed import Transformed
from tests.helpers import normal, with_inputs
from tests.latents import (
    NAMES,
    SMALL,
    begun,
    generator64,
    latent_scene,
    latents,
)

WORDS = InputSpec("words")


@pytest.mark.parametrize(("label", "index"), [("dog", 1), ("Dog", 1), (2, 2), ("2", 2), (0, 0)])
def test_a_class_is_given_by_name_or_number(label: Any, index: int) -> None:
    scene = latent_scene(generator=generator64(names=NAMES))
    embedding = begun(Latent(embedding="given", label=label), scene)["embedding"]
    assert embedding.shape == (3, 4)
    assert torch.equal(embedding, scene.models["generator"].tables["embedding"][[index] * 3])
    embedding[0] = 0  # a copy: the table is the generator's
    assert scene.models["generator"].tables["embedding"][index].any()


@pytest.mark.parametrize("label", ["dgo", "3", 3, -1, "-1", "²", ""])
def test_an_unknown_class_is_told_with_those_there_are(label: Any) -> None:
    scene = latent_scene(generator=generator64(names=NAMES))
    with pytest.raises(InputError, match=r"^Unknown class .* of a tiny generator") as raised:
        begun(Latent(embedding="given", label=label), scene)
    assert str(raised.value).endswith("It has 3: cat, dog, eel.")
    assert ("Did you mean 'dog'?" in str(raised.value)) == (label == "dgo")


def test_a_class_may_come_from_an_input_of_words() -> None:
    scene = latent_scene(generator=generator64(names=NAMES))
    table = scene.models["generator"].tables["embedding"]
    variable = Latent(embedding="given", label_from="classes")

    def told(*lines: str) -> Tensor:
        words = torch.cat([WordsKind().load(line, who="classes") for line in lines])
        inputs = Inputs(
            {**scene.inputs, "classes": words}, {**scene.inputs.specs, "classes": WORDS}
        )
        return begun(variable, replace(scene, inputs=inputs))["embedding"]

    assert torch.equal(told("dog,cat"), table[[1, 1, 1]])
    assert torch.equal(told("cat", "eel", "dog"), table[[0, 2, 1]])  # a row an image
    with pytest.raises(InputError, match="`latent` needs the input 'classes'"):
        begun(variable, scene)
    with pytest.raises(InputError, match="Unknown class 'cot'"):
        told("cot")


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
        (("Eel", "CAT", "Dog"), "cat"),  # in any case, as two lists of one set of classes may be
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

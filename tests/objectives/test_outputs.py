from __future__ import annotations

import math
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from invertkit.core.images.augment import Augmentation
from invertkit.core.randomness import Randomness
from invertkit.core.view import View
from invertkit.errors import InputError, RecipeError
from invertkit.models.classifiers.classifier import Classifier
from invertkit.objectives.outputs import Activation, Attention, CrossEntropy, KLDivergence
from tests.helpers import (
    REGIONS,
    SIZE,
    gradcheck,
    gradient,
    make_scene,
    score,
    setting,
    tiny_classifier,
    tiny_models,
    uniform,
)

OBJECTIVES: dict[str, Any] = {
    "predicted": lambda: CrossEntropy(),
    "class 3": lambda: CrossEntropy(target=3),
    "kl": lambda: KLDivergence(),
    "layer": lambda: Activation(layer="layer2"),
    "channel": lambda: Activation(layer="layer1", channel=1),
    "attention": lambda: Attention(layer="layer1"),
    "logit": lambda: Activation(layer="fc", channel=4),
}
every_objective = pytest.mark.parametrize("name", OBJECTIVES)


def softmax(logits: Tensor) -> list[float]:
    numbers = [math.exp(x) for x in logits.tolist()]
    return [x / sum(numbers) for x in numbers]


def test_cross_entropy_equals_its_slow_loop(classifier: Classifier) -> None:
    images = uniform(3, 3, *SIZE)
    for target, index in ((2, 2), ("2", 2), ("cat", 2), ("eel", 4)):
        objective = CrossEntropy(target=target)
        scene = setting(objective)
        slow = [-math.log(softmax(row)[index]) for row in classifier(images)]
        assert score(objective, scene, images).tolist() == pytest.approx(slow)


def test_cross_entropy_of_looks_leaves_the_image_to_the_other_terms() -> None:
    plain, images = CrossEntropy(target=2), uniform(2, 3, *SIZE)
    seen = CrossEntropy(target=2, zoom=(0.5, 0.9), flip=0.5, colour=0.3, noise=0.2)
    draws = Randomness((0, 1))
    looks = Augmentation((0.5, 0.9), 0, 0.5, 0.3, 0.2)(images, draws, 5)
    view = View(images, setting(plain), draws, now=5)
    wanted = plain.forward(View(looks, setting(plain), draws, now=5))
    torch.testing.assert_close(seen.forward(view), wanted)
    assert torch.equal(plain.forward(view), plain.forward(replace(view, _seen={})))
    assert not torch.allclose(seen.forward(view), plain.forward(view))


def test_predicted_means_the_class_of_the_reference(classifier: Classifier) -> None:
    scene = make_scene()
    assert scene.reference is not None
    label = int(classifier(scene.reference)[0].argmax())
    named, predicted = CrossEntropy(target=label), CrossEntropy()
    images = uniform(2, 3, *SIZE)
    assert torch.equal(
        score(predicted, setting(predicted), images), score(named, setting(named), images)
    )


def test_another_model_may_say_what_the_reference_shows() -> None:
    scene, images = make_scene(), uniform(2, 3, *SIZE)
    assert scene.reference is not None
    guesses = {
        name: int(model(scene.reference)[0].argmax())
        for name, model in tiny_models().items()
        if isinstance(model, Classifier)
    }
    assert len(set(guesses.values())) > 1
    for name, guess in guesses.items():
        named, predicted = CrossEntropy(target=guess), CrossEntropy(predicted_by=name)
        assert torch.equal(
            score(predicted, setting(predicted), images), score(named, setting(named), images)
        )


def test_kl_divergence_equals_its_slow_loop(classifier: Classifier) -> None:
    objective, images = KLDivergence(), uniform(3, 3, *SIZE)
    scene = setting(objective)
    assert scene.reference is not None
    p = softmax(classifier(scene.reference)[0])
    slow = []
    for row in classifier(images):
        pairs = zip(p, softmax(row), strict=True)
        slow.append(sum(a * (math.log(a) - math.log(b)) for a, b in pairs))
    values = score(objective, scene, images)
    assert values.tolist() == pytest.approx(slow)
    assert (values > 0).all()


def test_kl_divergence_is_zero_and_flat_at_the_reference() -> None:
    objective = KLDivergence()
    scene = setting(objective)
    assert scene.reference is not None
    assert score(objective, scene, scene.reference).item() == pytest.approx(0, abs=1e-15)
    slope = gradient(lambda x: score(objective, scene, x), scene.reference)
    assert slope.abs().max().item() < 1e-12


def test_activation_equals_its_slow_loop(classifier: Classifier) -> None:
    images = uniform(2, 3, *SIZE)
    for layer, channel in (("layer1", None), ("layer1", 2), ("layer3", -1), ("fc", 1)):
        objective = Activation(layer=layer, channel=channel)
        values = score(objective, setting(objective), images)
        units = classifier.observe(images, [layer])[layer]
        for i, value in enumerate(values):
            chosen = units[i] if channel is None else units[i, channel]
            numbers = chosen.flatten().tolist()
            assert value.item() == pytest.approx(sum(x * x for x in numbers) / len(numbers))


def test_attention_equals_its_slow_loop(classifier: Classifier) -> None:
    objective, images = Attention(layer="layer1"), uniform(2, 3, *SIZE)
    scene = setting(objective)
    assert scene.reference is not None
    reference = scene.reference.clone().requires_grad_()
    seen = classifier.observe(reference, ("layer1", "logits"))
    (slope,) = torch.autograd.grad(seen["logits"].max(), seen["layer1"])
    weights = [sum(row) / len(row) for row in slope[0].flatten(1).tolist()]
    maps = classifier.observe(images, ("layer1",))["layer1"]
    for i, value in enumerate(score(objective, scene, images)):
        inside = total = 0.0
        for y, x in product(range(maps.shape[2]), range(maps.shape[3])):
            pairs = zip(weights, maps[i, :, y, x].tolist(), strict=True)
            answer = max(0.0, sum(w * a for w, a in pairs)) + 1e-6
            share = scene.inputs["target"][0, 0, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2].mean().item()
            inside, total = inside + answer * share, total + answer
        assert value.item() == pytest.approx(-math.log(inside / total))


@every_objective
@pytest.mark.parametrize("region", ["everywhere", "object"])
def test_what_a_network_says_of_an_image_does_not_depend_on_its_company(
    name: str, region: str
) -> None:
    objective = OBJECTIVES[name]()
    scene, images = setting(objective, region=region), uniform(3, 3, *SIZE)
    values = score(objective, scene, images, region=region)
    assert values.shape == (3,)
    assert values.isfinite().all()
    alone = [score(objective, scene, image[None], region=region) for image in images]
    torch.testing.assert_close(values, torch.cat(alone), rtol=1e-12, atol=1e-14)


@every_objective
@pytest.mark.parametrize("region", ["everywhere", "vacated"])
def test_the_gradient_agrees_with_finite_differences(name: str, region: str) -> None:
    objective, size = OBJECTIVES[name](), (8, 10)
    scene = setting(objective, make_scene(size), region=region)
    gradcheck(lambda x: score(objective, scene, x, region=region), uniform(2, 3, *size))


@every_objective
@pytest.mark.parametrize("reference", [False, True])
def test_nothing_outside_the_region_reaches_the_gradient(name: str, *, reference: bool) -> None:
    if name == "attention" or (not reference and name in ("predicted", "kl")):
        return  # attention looks everywhere: it asks where, not what
    objective = OBJECTIVES[name]()
    scene = setting(objective, make_scene(reference=reference))
    for region in REGIONS:
        inside = scene.region(region, of_reference=False)
        assert inside is not None
        slope = gradient(
            lambda x: score(objective, scene, x, region=region),  # noqa: B023
            uniform(2, 3, *SIZE),
        )
        assert not (slope * (1 - inside)).any()
        assert (slope * inside).any()


@every_objective
def test_a_cut_out_shows_the_reference_outside_the_region(name: str) -> None:
    if name == "attention":
        return
    objective = OBJECTIVES[name]()
    scene, images = setting(objective), uniform(2, 3, *SIZE)
    assert scene.reference is not None
    pasted = images * scene.inputs["target"] + scene.reference * (1 - scene.inputs["target"])
    torch.testing.assert_close(
        score(objective, scene, images, region="object"), score(objective, scene, pasted)
    )


def test_an_unknown_class_is_named_with_a_suggestion() -> None:
    with pytest.raises(RecipeError, match=r"Unknown class 'eal'.*Did you mean 'eel'"):
        setting(CrossEntropy(target="eal"))
    for target in (5, -1):
        with pytest.raises(RecipeError, match="outside 0–4"):
            setting(CrossEntropy(target=target))


def test_a_class_beyond_the_logits_is_refused_where_no_names_tell() -> None:
    """Also where there are more names than logits."""
    for classes, target in (((), 5), (tuple("abcdefg"), 6), ((), 17)):
        models = {"classifier": Classifier(tiny_classifier().net, classes=classes)}
        scene = setting(objective := CrossEntropy(target=target), models=models)
        with pytest.raises(RecipeError, match=f"Class {target} is outside 0–4"):
            score(objective, scene, uniform(1, 3, *SIZE))


def test_names_that_are_numbers_go_before_numbers_and_it_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    classes = ("4", "0", "1", "2", "3")
    models = {"classifier": Classifier(tiny_classifier().net, classes=classes)}
    images = uniform(2, 3, *SIZE)

    # All of them live on, as in a run: what a scene keeps goes by the objective's id.
    objectives: dict[int | str, CrossEntropy] = {t: CrossEntropy(target=t) for t in ("4", 0, 4)}

    def value(target: int | str) -> Tensor:
        return score(objectives[target], scene, images)

    scene = setting(CrossEntropy(target=4), models=models)
    caplog.clear()
    assert torch.equal(value("4"), value(0))
    assert "Class '4' is taken by its name, as number 0; number 4 is '3'." in caplog.text
    assert not torch.equal(value("4"), value(4))
    assert "Class 4 is taken by its number" in caplog.text


def test_an_unknown_channel_is_named() -> None:
    objective = Activation(layer="layer1", channel=4)
    scene = setting(objective)
    with pytest.raises(RecipeError, match="channels 0–3, not 4"):
        score(objective, scene, uniform(1, 3, *SIZE))


@pytest.mark.parametrize("name", ["predicted", "kl"])
def test_without_a_reference_there_is_a_clear_error(name: str) -> None:
    with pytest.raises(InputError, match="reference"):
        setting(OBJECTIVES[name](), make_scene(reference=False))


def test_a_divergence_that_was_not_prepared_says_so(classifier: Classifier) -> None:
    objective, prepared = KLDivergence(), KLDivergence()
    with pytest.raises(InputError, match="not prepared"):
        score(objective, setting(prepared), uniform(1, 3, *SIZE))

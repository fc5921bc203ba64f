from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from invertkit.core.images.inputs import Inputs
from invertkit.core.images.resize import resize_image, resize_mask
from invertkit.core.images.specs import InputSpec
from invertkit.core.network import Network
from invertkit.core.randomness import Randomness
from invertkit.core.regions import REGIONS, MaskRegion
from invertkit.core.scene import Scene
from invertkit.core.view import View
from invertkit.engine.problem import Term
from invertkit.engine.run import Run
from invertkit.errors import InputError, RecipeError, TapError
from invertkit.models.classifiers.classifier import Classifier
from invertkit.objectives.outputs import Activation, CrossEntropy, KLDivergence
from invertkit.objectives.statistics import BatchNormStatistics, FeatureStatistics
from tests.helpers import SIZE, make_problem, tiny_classifier, uniform, with_inputs


class Counting(Network):
    """A model that counts how often it is asked, and for what."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str, ...]] = []

    def observe(self, image: Tensor, layers: Collection[str]) -> Mapping[str, Tensor]:
        self.asked.append(tuple(sorted(layers)))
        return {layer: image.mean((2, 3)) for layer in layers}


def look(scene: Scene, images: Tensor | None = None, step: int = 0) -> View:
    images = uniform(2, 3, *SIZE) if images is None else images
    return View(images, scene, Randomness(tuple(range(len(images)))), step)


def test_a_view_asks_each_model_once_and_only_when_asked_itself(scene: Scene) -> None:
    one, two = Counting(), Counting()
    scene = replace(
        scene, models={"one": one, "two": two}, needs={"one": ("a", "logits"), "two": ("b",)}
    )
    view = look(scene)
    assert one.asked == two.asked == []
    view.tap("a", model="one")
    view.logits(model="one")
    view.within("object").tap("a", model="one")
    view.within("object").within("everywhere").logits(model="one")
    assert one.asked == [("a", "logits")]
    assert two.asked == []
    view.tap("b", model="two")
    assert two.asked == [("b",)]


def test_terms_that_cut_out_the_same_region_share_a_forward(scene: Scene) -> None:
    model = Counting()
    view = look(replace(scene, models={"classifier": model}, needs={"classifier": ("a",)}))
    for _ in range(2):
        view.within("object").cut_out().tap("a")
        view.cut_out().tap("a")
    assert len(model.asked) == 2
    view.within("background").cut_out().tap("a")
    assert len(model.asked) == 3


@pytest.mark.parametrize(("region", "forwards"), [("everywhere", 1), ("object", 2)])
def test_a_run_takes_one_forward_a_step_however_many_terms_read_it(
    region: str, forwards: int
) -> None:
    classifier, passes = tiny_classifier(torch.float32), 0

    def count(*_: object) -> None:
        nonlocal passes
        passes += 1

    classifier.net.register_forward_pre_hook(count)
    terms = [CrossEntropy(), KLDivergence(), Activation(layer="layer1")]
    cutting = [Term(term, name=f"term {i}", region=region) for i, term in enumerate(terms)]
    problem = make_problem(
        *cutting,
        Term(FeatureStatistics(), name="features", region=region),
        Term(BatchNormStatistics(), name="batch norm"),
        models={"classifier": classifier},
        stages=[(SIZE, 3), ((12, 12), 2)],
    )
    for report in Run(problem).steps():
        # one look at the reference a stage; cut-out images are one more look a step
        assert passes == report.stage + 1 + forwards * report.step


def test_a_forward_stops_after_the_deepest_layer_asked_for(classifier: Classifier) -> None:
    reached: list[str] = []
    for name, module in classifier.net.named_children():
        module.register_forward_hook(lambda *_, name=name: reached.append(name))
    classifier.observe(uniform(1, 3, *SIZE), ("stem", "layer2"))
    assert reached == ["stem", "layer1", "layer2"]


def test_a_layer_that_was_not_announced_is_an_error(classifier: Classifier, scene: Scene) -> None:
    view = look(replace(scene, models={"classifier": classifier}, needs={"classifier": ("stem",)}))
    with pytest.raises(TapError, match=r"'layer1'.*not read on this step; read are: stem.*needs"):
        view.tap("layer1")
    with pytest.raises(TapError, match=r"No model 'clasifier'.*known: classifier"):
        view.tap("layer1", model="clasifier")
    with pytest.raises(TapError, match=r"No player 'critic'.*known: none"):
        view.player("critic")


def test_a_layer_that_does_not_run_or_mixes_its_rows_is_an_error(scene: Scene) -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.aside, self.cut = (
                nn.Conv2d(3, 4, 1),
                nn.Conv2d(3, 4, 1),
                nn.Flatten(0, 1),
            )

        def forward(self, image: Tensor) -> Tensor:
            return self.cut(self.stem(image)).mean((1, 2)).reshape(len(image), 4, 1)

    models = {"classifier": Classifier(Odd()).double()}
    view = look(replace(scene, models=models, needs={"classifier": ("aside", "cut", "logits")}))
    with pytest.raises(TapError, match=r"'aside'.*does not run when the network looks"):
        view.tap("aside")
    with pytest.raises(TapError, match=r"'cut'.*\(8, 16, 20\) for 2 images.*one row an image"):
        view.tap("cut")
    with pytest.raises(TapError, match=r"shape \(2, 4, 1\) where logits of classes, \(b, k\)"):
        view.logits()
    assert view.taps(("aside", "logits")).keys() == {"logits"}


def test_draws_of_a_view_belong_to_its_seeds_and_step(scene: Scene) -> None:
    first = look(scene, step=3).normal("x", 4)
    assert first.shape == (2, 4)
    assert torch.equal(first, look(scene, step=3).normal("x", 4))
    assert not torch.equal(first, look(scene, step=4).normal("x", 4))


# ---------------------------------------------------------------------- regions


def test_regions_are_what_their_names_say(scene: Scene) -> None:
    y, z = scene.inputs["mask"], scene.inputs["target"]
    wanted = {
        "object": (y, z),
        "background": (1 - y, 1 - z),
        "untouched": ((1 - y) * (1 - z),) * 2,
        "vacated": (y * (1 - z),) * 2,
    }
    for name in REGIONS:
        for of_reference in (True, False):
            found = scene.region(name, of_reference=of_reference)
            if name == "everywhere":
                assert found is None
            else:
                assert found is not None
                assert torch.equal(found, wanted[name][0 if of_reference else 1])


def test_a_view_of_the_reference_uses_the_source_mask(scene: Scene) -> None:
    here = look(scene).within("object")
    there = replace(look(scene), is_reference=True).within("object")
    assert torch.equal(here.region(SIZE), scene.inputs["target"])  # type: ignore[arg-type]
    assert torch.equal(there.region(SIZE), scene.inputs["mask"])  # type: ignore[arg-type]


@pytest.mark.parametrize("region", [name for name in REGIONS if name != "everywhere"])
def test_a_region_without_masks_is_an_error(region: str, scene: Scene) -> None:
    with pytest.raises(InputError, match=f"{region!r}.*no mask"):
        look(with_inputs(scene, mask=None)).within(region).cut_out()


def test_without_a_target_the_object_stays_where_it_is(scene: Scene) -> None:
    staying = with_inputs(scene, target=None)
    assert torch.equal(look(staying).within("object").region(SIZE), scene.inputs["mask"])  # type: ignore[arg-type]
    assert not staying.region("vacated", of_reference=False).any()  # type: ignore[union-attr]


def test_a_region_may_be_any_masks(scene: Scene) -> None:
    region = MaskRegion(result="target", reference="mask")
    here = look(scene).within(region)
    there = replace(here, is_reference=True)
    assert torch.equal(here.region(SIZE), scene.inputs["target"])  # type: ignore[arg-type]
    assert torch.equal(there.region(SIZE), scene.inputs["mask"])  # type: ignore[arg-type]
    assert replace(here, region_name=MaskRegion("target")).within(region).region(SIZE) is not None
    assert look(scene).within(MaskRegion(reference="mask")).region(SIZE) is None
    with pytest.raises(InputError, match="no input 'sky'; it has: image, mask and target"):
        look(scene).within(MaskRegion("sky")).region(SIZE)


def test_a_look_compares_with_the_image_that_its_term_names() -> None:
    scene = Scene(
        SIZE,
        Inputs(
            {"photo": uniform(1, 3, *SIZE), "style": uniform(1, 3, 8, 40, seed=4)},
            {"photo": InputSpec(), "style": InputSpec(optional=True)},
        ),
    )
    assert look(scene).reference is scene.reference is scene.inputs["photo"]
    styled = look(scene).within("everywhere", "style")
    assert styled.reference is scene.inputs["style"]
    assert styled.of_reference().image is scene.inputs["style"]
    assert [each.image.shape for each in styled.photographs()] == [(1, 3, 8, 40)]
    with pytest.raises(InputError, match="give an image 'other'"):
        _ = look(scene).within("everywhere", "other").reference


def test_an_unknown_region_is_an_error(scene: Scene) -> None:
    with pytest.raises(InputError, match="Unknown region 'sky'; known: everywhere, object"):
        scene.region("sky", of_reference=False)


def test_a_mask_at_another_size_keeps_its_share() -> None:
    mask = uniform(1, 1, 12, 16).round()
    for size in ((6, 8), (4, 4), (3, 2)):
        small = resize_mask(mask, size)
        assert small.mean().item() == pytest.approx(mask.mean().item())
        assert small.min() >= 0
        assert small.max() <= 1
    cells = resize_mask(mask, (6, 8))
    assert cells[0, 0, 2, 3].item() == pytest.approx(mask[0, 0, 4:6, 6:8].mean().item())
    large = resize_mask(mask, (24, 32))
    assert large.shape == (1, 1, 24, 32)
    assert large.min() >= 0
    assert large.max() <= 1
    assert resize_mask(mask, (12, 16)) is mask


def test_an_image_that_shrinks_is_smoothed_first() -> None:
    y, x = torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij")
    checks = ((y + x) % 2).to(torch.float64).expand(1, 3, -1, -1)
    small = resize_image(checks, (6, 6))
    assert (small - 0.5).abs().max().item() < 0.15
    assert resize_image(checks, (16, 16)) is checks


def test_a_cut_out_equals_the_reference_outside_and_the_image_inside(scene: Scene) -> None:
    images = uniform(2, 3, *SIZE, seed=5)
    assert scene.reference is not None
    for region in REGIONS[1:]:
        inside = scene.region(region, of_reference=False)
        assert inside is not None
        shown = look(scene, images).within(region).cut_out().image
        torch.testing.assert_close(shown * inside, images * inside)
        torch.testing.assert_close(shown * (1 - inside), scene.reference * (1 - inside) + 0 * shown)
        held = look(with_inputs(scene, image=None), images).within(region).cut_out().image
        torch.testing.assert_close(held, images)
    assert look(scene, images).cut_out().image is images


def test_hooks_are_gone_even_where_the_forward_fails(classifier: Classifier) -> None:
    def hooks() -> int:
        return sum(
            len(m._forward_hooks) + len(m._forward_pre_hooks) for m in classifier.net.modules()
        )

    classifier.observe(uniform(1, 3, *SIZE), ("stem", "layer2.1:input", "logits"))
    assert hooks() == 0
    classifier.net.layer2 = nn.Conv2d(7, 7, 3).double()
    with pytest.raises(RecipeError, match="a tiny network fails on images of 16×20"):
        classifier.observe(uniform(1, 3, *SIZE), ("stem", "layer3"))
    assert hooks() == 0
    with pytest.raises(TapError):
        classifier.observe(uniform(1, 3, *SIZE), ("stem", "zzz"))
    assert hooks() == 0

"""The jobs `collage` and `blend`, from the command line and from Python, on a tiny generator."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import Tensor

import invertkit as package
from invertkit.apps.editing.finish import Finished, joined_to
from invertkit.core.images.save import to_picture
from invertkit.errors import InputError
from invertkit.models.generators.feature_blend import blend_levels
from invertkit.models.generators.generator import Generator
from invertkit.models.generators.latents import latent_and_class
from invertkit.runs.observers import STOP
from tests.faces import invertkit
from tests.helpers import normal, tiny_generator, uniform

NAMES = ("ant", "bee", "cat")
SIDE = 32
SMALL: dict[str, Any] = {
    "objective": {"match": {"type": "pixel_distance"}},
    "models": {"generator": {"type": "embedded_generator"}},
    "variable": {
        "type": "latent", "embedding": "given", "label_from": "classes", "noise": 0,
    },
    "optimizer": {"type": "adam", "lr": 0.05, "over": ["latent"]},
    "stages": [{"size": 16, "steps": 2}],
    "fit": "crop",
    "result": "best",
}  # fmt: skip
COLLAGE = {
    **SMALL,
    "name": "small-collage",
    "inputs": {
        "image": "image",
        "classes": "words",
        "layout": {"kind": "labels", "optional": True},
        "masks": {"kind": "masks", "optional": True},
    },
    "finish": {"type": "collage"},
}
BLEND = {
    **SMALL,
    "name": "small-blend",
    "inputs": {
        "image": "image",
        "classes": "words",
        "references": {"kind": "images", "optional": True},
        "masks": {"kind": "masks", "optional": True},
    },
    "finish": {"type": "blend"},
}


def draws() -> Generator:
    net = tiny_generator(classes=3).net
    return Generator(net.float(), latents=latent_and_class(5, names=NAMES), size=16)


def photograph(seed: int = 0) -> Tensor:
    return (uniform(1, 3, SIDE, SIDE, seed=seed) * 255).round().float() / 255


def layout() -> np.ndarray[Any, Any]:
    labels = np.zeros((SIDE, SIDE), np.uint8)
    labels[:, SIDE // 2 :] = 1
    return labels


def right_half() -> Tensor:
    return torch.from_numpy(layout()).float()[None, None]


def run(page: dict[str, Any], **given: Any) -> Finished:
    made = package.run(page, models={"generator": draws()}, device="cpu", progress=False, **given)
    assert isinstance(made, Finished), made
    return made


def collage(**given: Any) -> Finished:
    return run(
        COLLAGE, **{"image": photograph(), "layout": layout(), "classes": "ant,bee", **given}
    )


# ---------------------------------------------------------------------- collage


def test_a_collage_changes_nothing_outside_and_what_was_asked_inside() -> None:
    made = collage()
    source = photograph()[0]
    assert made.images.shape == (1, 3, SIDE, SIDE)
    assert torch.equal(made.images[0][:, ~made.region[0]], source[:, ~made.region[0]])
    assert not torch.allclose(made.images[0][:, made.region[0]], source[:, made.region[0]])
    # Softened by σ = 1 pixel of 32: at the fourth pixel from the border nothing was asked.
    assert bool(made.region[:, :, SIDE // 2 :].all())
    assert not bool(made.region[:, :, : SIDE // 2 - 3].any())
    assert [label for label, _ in made.before] == ["source", "map: bee", "projection"]


@pytest.mark.parametrize("mode", [torch.inference_mode, lambda: torch.device("meta")])
def test_a_collage_is_the_same_in_any_mode(mode: Callable[[], Any]) -> None:
    given = {"image": photograph(), "layout": layout(), "classes": "ant,bee"}
    wanted, models = collage().images, {"generator": draws()}
    with mode():
        made = package.run(COLLAGE, models=models, device="cpu", progress=False, **given)
    assert torch.equal(made.images, wanted)


def test_a_palette_a_grey_picture_an_array_and_a_mask_mean_the_same(tmp_path: Path) -> None:
    grey = Image.fromarray(layout())
    palette = Image.fromarray(layout()).convert("P")
    palette.putdata(layout().flatten().tolist())
    palette.putpalette([0, 0, 0, 255, 0, 0])
    palette.save(tmp_path / "layout.png")
    wanted = collage().generated
    for given in (
        {"layout": grey},
        {"layout": tmp_path / "layout.png"},
        {"layout": None, "masks": [right_half()]},
    ):
        assert torch.equal(collage(**given).generated, wanted)


def test_one_class_everywhere_is_the_projection() -> None:
    nothing = np.zeros((SIDE, SIDE), np.uint8)
    made = collage(layout=nothing)
    (_, projection) = made.before[-1]
    assert torch.equal(made.generated[0], projection)
    assert torch.equal(made.images[0], photograph()[0])


def test_a_map_everywhere_has_nothing_to_be_joined_to() -> None:
    made = collage(layout=np.ones((SIDE, SIDE), np.uint8))
    assert made.images.shape[-1] == SIDE
    assert bool(made.region.all())


def test_numbers_may_be_the_generators_own() -> None:
    numbers = layout() * 2  # ants on the left, cats on the right
    own = collage(layout=numbers, classes="ant", overrides={"finish.numbers": "generator"})
    assert torch.equal(own.generated, collage(classes="ant,cat").generated)


def test_a_sweep_goes_from_the_projection_to_the_collage(tmp_path: Path) -> None:
    out = tmp_path / "sweep"
    made = collage(overrides={"finish.strength": [0, 0.5, 1]}, out=out)
    assert torch.equal(made.generated[0], made.before[-1][1])
    assert torch.equal(made.generated[-1], collage().generated[0])
    assert (out / "animation.gif").is_file()
    assert len(list((out / "frames").iterdir())) == 3
    assert json.loads((out / "finish.json").read_text())["strengths"] == [0, 0.5, 1]
    assert "bee" in repr(made)


# ---------------------------------------------------------------------- blend


def blend(**given: Any) -> Finished:
    usual = {
        "image": photograph(), "references": [photograph(1)], "masks": [right_half()],
        "classes": "ant,bee",
    }  # fmt: skip
    return run(BLEND, **{**usual, **given})


def test_a_blend_takes_the_other_where_its_mask_is() -> None:
    made = blend()
    labels = [label for label, _ in made.before]
    assert labels == ["source", "reference 1", "projection 1", "projection"]
    pictures = dict(made.before)
    # In the last level alone, what is far from the border is the other picture as it is.
    late = blend(overrides={"finish.levels": [len(blend_levels(draws())) - 1]}).generated[0]
    other, own = pictures["projection 1"], pictures["projection"]
    torch.testing.assert_close(late[..., -1:], other[..., -1:], rtol=0, atol=1e-5)
    torch.testing.assert_close(late[..., :1], own[..., :1], rtol=0, atol=1e-5)
    assert not torch.allclose(own, other)
    assert torch.equal(made.images[0][:, ~made.region[0]], photograph()[0][:, ~made.region[0]])
    nothing = blend(overrides={"finish.strength": 0}).generated[0]
    torch.testing.assert_close(nothing, pictures["projection"], rtol=0, atol=1e-5)


def test_a_blend_leaves_a_folder_for_every_photograph(tmp_path: Path) -> None:
    out = tmp_path / "out"
    blend(
        references=[photograph(1), photograph(2)],
        masks=[right_half(), (1 - right_half())],
        classes="ant",
        out=out,
        overrides={"finish.shift": [[0.25, 0], [0, 0]]},
    )
    assert {"image", "reference-1", "reference-2"} <= {each.name for each in out.iterdir()}
    assert (out / "sheet.png").is_file()
    facts = json.loads((out / "finish.json").read_text())
    assert facts["shift"] == [[0.25, 0], [0, 0]]


# ---------------------------------------------------------------------- demonstrations, resuming


@pytest.mark.parametrize("page", [COLLAGE, BLEND], ids=["collage", "blend"])
def test_without_inputs_the_generator_draws_a_demonstration(page: dict[str, Any]) -> None:
    made = run(page)
    assert made.images.isfinite().all()
    assert made.facts["generator"] == draws().description


def test_an_interrupted_run_goes_on_to_the_same_collage(tmp_path: Path) -> None:
    given = {"image": photograph(), "layout": layout(), "classes": "ant,bee", "device": "cpu",
             "models": {"generator": draws()}, "progress": False}  # fmt: skip
    whole = package.run(COLLAGE, **given)
    part = package.run(COLLAGE, **given, out=tmp_path / "run", observers=[lambda _: STOP])
    assert not isinstance(part, Finished)
    assert part.steps == 1
    again = package.resume(tmp_path / "run", models={"generator": draws()}, progress=False)
    assert isinstance(whole, Finished)
    assert isinstance(again, Finished)
    assert torch.equal(again.images, whole.images)


def test_the_command_line_makes_a_collage_of_the_embedded_generator(tmp_path: Path) -> None:
    page = {**COLLAGE, "models": {"generator": {"type": "embedded_generator"}}}
    path, image, mask = tmp_path / "page.yaml", tmp_path / "a.png", tmp_path / "m.png"
    path.write_text(yaml.safe_dump(page))
    to_picture(photograph()[0]).save(image)
    Image.fromarray(layout() * 255).save(mask)
    answer = invertkit(
        "run", path, "--image", image, "--input", f"masks={mask}", "--input", "classes=0,1",
        "--out", tmp_path / "out", "--device", "cpu", "-q",
    )  # fmt: skip
    assert answer.code == 0, answer
    assert answer.out.strip() == str(tmp_path / "out" / "sheet.png")
    assert (tmp_path / "out" / "collage.png").is_file()


# ---------------------------------------------------------------------- faults


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"layout": np.zeros((16, 32), np.uint8)}, "layout: is 32×16 pixels, the image is 32×32"),
        ({"classes": "ant,bea"}, "Unknown class 'bea'"),
        ({"classes": "ant"}, "layout: 1 stands for no class: 1 is named"),
        ({"layout": np.full((32, 32), 7, np.uint8)}, "layout: 7 stands for no class"),
        ({"layout": None}, "neither was given"),
        ({"masks": [right_half()]}, "both was given|both"),
        ({"layout": None, "masks": [right_half()] * 2}, "masks: 2 were given for 2 classes"),
        (
            {"layout": None, "masks": [right_half()] * 2, "classes": "ant,bee,cat"},
            "the masks number 1 and 2 overlap on 512 pixels",
        ),
        ({"classes": None}, "needs classes"),
        ({"classes": "ant,,bee"}, "classes: expected names with commas between"),
        ({"overrides": {"finish.layers": "frist"}}, "finish.layers"),
        ({"overrides": {"finish.layers": [99]}}, "layers: there are"),
        ({"overrides": {"finish.strength": 2}}, "finish.strength"),
        ({"overrides": {"finish.softness": 2}}, "finish.softness"),
        ({"overrides": {"finish.type": "colage"}}, "Did you mean 'collage'"),
    ],
)
def test_a_collage_that_cannot_be_is_refused_before_the_first_step(
    given: dict[str, Any], told: str
) -> None:
    with pytest.raises(package.InvertkitError, match=told):
        collage(**given, observers=[lambda _: pytest.fail("a step was taken")])


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"masks": []}, "masks: expected at least one image"),
        ({"masks": None}, "there are 0 masks for 1"),
        ({"references": None}, "references: a blend takes features of other photographs"),
        (
            {"references": [photograph(1)] * 2, "masks": [right_half()] * 2, "classes": "ant"},
            "masks: overlap on 50.0% of the picture",
        ),
        ({"classes": "ant,bee,cat"}, "classes: one for all, or one for the image and each"),
        ({"overrides": {"finish.shift": [[0, 0], [0, 0]]}}, "finish.shift: one for each"),
        ({"masks": [right_half()[..., 8:24]]}, "masks: is 16×32 pixels, the image is 32×32"),
    ],
)
def test_a_blend_that_cannot_be_is_refused_before_the_first_step(
    given: dict[str, Any], told: str
) -> None:
    with pytest.raises(package.InvertkitError, match=told):
        blend(**given, observers=[lambda _: pytest.fail("a step was taken")])


def test_a_generator_without_classes_has_no_collage() -> None:
    body = torch.nn.Sequential(torch.nn.Linear(5, 3 * 16 * 16), torch.nn.Unflatten(1, (3, 16, 16)))
    plain = Generator(body, latents={"z": 5})
    page = {**COLLAGE, "variable": {"type": "latent"}, "optimizer": {"type": "adam"}}
    with pytest.raises(InputError, match="has no class embedding"):
        package.run(
            page, image=photograph(), layout=layout(), classes="a,b", device="cpu",
            models={"generator": plain},
        )  # fmt: skip


def test_joining_keeps_the_photograph_where_nothing_changed() -> None:
    source, pictures = photograph()[0], torch.sigmoid(normal(2, 3, 16, 16)).float()
    images, inside = joined_to(source, pictures, torch.zeros(1, SIDE, SIDE))
    assert torch.equal(images, source.expand(2, -1, -1, -1))
    assert not bool(inside.any())

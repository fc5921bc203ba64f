"""Every kind of bad input: one sentence that says what was expected, what came, what to do."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

import invertkit as package
from invertkit.core.devices import pick_device
from invertkit.core.images.load import load_image, load_mask
from invertkit.errors import InputError, InvertkitError, RecipeError
from invertkit.models.classifiers.convert import convert_weights
from invertkit.models.classifiers.kitnet import KitNet
from invertkit.models.classifiers.sources.embedded import EMBEDDED
from invertkit.models.loading.weights_file import read_weights
from invertkit.runs.checkpoint import FORMAT, load
from invertkit.runs.dry_run import dry_run
from invertkit.runs.prepare import prepare_job
from tests.faces import invertkit, picture, scene_tensors, tiny_page, write_inputs, write_page
from tests.helpers import tiny_classifier

NETWORK = "shufflenet_v2_x0_5"  # the smallest of torchvision

Refuse = Callable[..., str]


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


@pytest.fixture
def refuse(tmp_path: Path) -> Refuse:
    """Run a tiny page with some of its inputs replaced; the sentence of the refusal."""

    def go(*arguments: object, page: Path | str | None = None, **files: object) -> str:
        inputs = {name: tmp_path / f"{name}.png" for name in ("image", "mask", "target")}
        write_inputs(tmp_path)
        options = [x for name, path in {**inputs, **files}.items() for x in (f"--{name}", path)]
        out = tmp_path / "out"
        answer = invertkit(
            "run", page or write_page(tmp_path), *options, "--out", out, "--device", "cpu",
            *arguments,
        )  # fmt: skip
        assert not out.exists(), "a refused run leaves no folder"
        assert answer.out == ""
        return answer.sentence

    return go


def write(path: Path, data: str | bytes) -> Path:
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


# ---------------------------------------------------------------------- pictures


def test_a_missing_image(refuse: Refuse, tmp_path: Path) -> None:
    assert refuse(image=tmp_path / "no.png") == f"image {tmp_path}/no.png: no such file."


def test_a_file_that_is_no_picture(refuse: Refuse, tmp_path: Path) -> None:
    said = refuse(image=write(tmp_path / "x.png", "I am a text"))
    assert said.startswith(f"image {tmp_path}/x.png: cannot be read as a picture (")


def test_an_empty_file_as_image(refuse: Refuse, tmp_path: Path) -> None:
    assert "cannot be read as a picture" in refuse(image=write(tmp_path / "x.png", b""))


def test_a_truncated_image(refuse: Refuse, tmp_path: Path) -> None:
    picture(scene_tensors()[0]).save(tmp_path / "whole.png")
    data = (tmp_path / "whole.png").read_bytes()
    said = refuse(image=write(tmp_path / "half.png", data[: len(data) // 2]))
    assert said.startswith(f"image {tmp_path}/half.png: cannot be read as a picture (")


def test_a_folder_as_image(refuse: Refuse, tmp_path: Path) -> None:
    said = refuse(image=tmp_path)
    assert said == f"image {tmp_path}: is a folder; expected a picture."


def test_an_image_of_one_pixel(refuse: Refuse, tmp_path: Path) -> None:
    Image.new("RGB", (1, 1)).save(tmp_path / "one.png")
    assert refuse(image=tmp_path / "one.png") == (
        f"image {tmp_path}/one.png: is 1×1 pixels; a photograph needs at least 16×16. "
        "Give a larger one."
    )


@pytest.mark.parametrize("name", ["mask", "target"])
@pytest.mark.parametrize("size", [(12, 16), (30, 32)])
def test_a_mask_of_another_size_or_aspect(
    refuse: Refuse, tmp_path: Path, name: str, size: tuple[int, int]
) -> None:
    picture(scene_tensors(size)[1]).save(tmp_path / "other.png")
    assert refuse(**{name: tmp_path / "other.png"}) == (
        f"{name}: is {size[1]}×{size[0]} pixels, the image is 32×24. A mask covers its image "
        "pixel by pixel; resize it to 32×24."
    )


def test_source_and_target_of_different_sizes() -> None:
    image, mask, _ = scene_tensors()
    with pytest.raises(InputError, match="target: is 20×16 pixels, the image is 32×24"):
        package.run(
            "magic", image=image, mask=mask, target=scene_tensors((16, 20))[2], device="cpu"
        )


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (0.0, "is empty: no pixel is white."),
        (1.0, "is full: every pixel is white, so nothing is left for the background."),
        (0.5, "is not binary: 100% of its pixels are grey."),
    ],
)
@pytest.mark.parametrize("name", ["mask", "target"])
def test_an_empty_full_or_grey_mask(
    refuse: Refuse, tmp_path: Path, name: str, value: float, sentence: str
) -> None:
    picture(torch.full((1, 1, 24, 32), value)).save(tmp_path / "flat.png")
    said = refuse(**{name: tmp_path / "flat.png"})
    assert said.startswith(f"{name} {tmp_path}/flat.png: {sentence}")
    assert "A mask is white on the object and black elsewhere" in said


def test_a_photograph_as_mask(refuse: Refuse, tmp_path: Path) -> None:
    picture(scene_tensors()[0]).save(tmp_path / "photograph.png")
    assert "is not binary" in refuse(mask=tmp_path / "photograph.png")


@pytest.mark.parametrize(
    ("name", "lacking"), [("image", "image"), ("mask", "mask"), ("target", "target")]
)
def test_an_input_that_is_not_given(tmp_path: Path, name: str, lacking: str) -> None:
    options = write_inputs(tmp_path)
    at = options.index(f"--{name}")
    del options[at : at + 2]
    answer = invertkit(
        "run", write_page(tmp_path), *options, "--out", tmp_path / "out", "--device", "cpu"
    )
    assert answer.sentence == (
        f"Recipe 'tiny' needs {lacking}; give --{lacking} FILE (from Python: {lacking}=…)."
    )
    assert not (tmp_path / "out").exists()


def nan(values: Tensor) -> Tensor:
    values = values.clone()
    values[0, 0, 2, 3] = torch.nan
    return values


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (nan, "image: has 1 value that are NaN or infinite; expected floats in [0, 1]."),
        (lambda x: x * 255, "image: expected floats in [0, 1], got values from 0"),
        (lambda x: x - 1, "Divide by 255, or undo a normalisation, first."),
        (lambda x: x[0, 0, 0], "image: expected shape (3, h, w), (1, 3, h, w) or (h, w), got (32,"),
        (lambda x: x.expand(2, -1, -1, -1), "got (2, 3, 24, 32)."),
        (lambda x: (x * 255).to(torch.int32), "or booleans, got torch.int32."),
        (lambda x: x.numpy() * 255, "image: expected floats in [0, 1], got values"),
        (lambda x: x[..., :8], "image: is 8×24 pixels; a photograph needs at least 16×16."),
        (lambda x: [[0, 1]], "image: expected a path, a PIL image, an array or a tensor, got list"),
    ],
)
def test_values_from_python_that_cannot_be_an_image(
    spoil: Callable[[Tensor], Any], message: str
) -> None:
    image, mask, target = scene_tensors()
    with pytest.raises(InputError) as fault:
        package.run("magic", image=spoil(image), mask=mask, target=target, device="cpu")
    assert message in str(fault.value)
    assert "\n" not in str(fault.value)


def test_several_values_that_are_not_numbers_are_counted() -> None:
    image = scene_tensors()[0]
    image[0, 0, 0, :2] = torch.inf
    with pytest.raises(InputError, match="has 2 values that are NaN or infinite"):
        load_image(image)
    with pytest.raises(InputError, match="mask: has 2 values"):
        load_mask(image)


@pytest.mark.parametrize("mode", ["CMYK", "I;16", "I", "P", "RGBA", "LA", "L", "1", "F"])
def test_images_of_every_mode_are_handled(tmp_path: Path, mode: str) -> None:
    write_inputs(tmp_path)
    photograph = picture(scene_tensors()[0])
    if mode == "I;16":
        photograph = Image.fromarray(np.asarray(photograph.convert("L")).astype(np.uint16) * 257)
    else:
        photograph = photograph.convert(mode)
    photograph.save(tmp_path / "photograph.tiff")
    answer = invertkit(
        "run", write_page(tmp_path), "--image", tmp_path / "photograph.tiff", "--mask",
        tmp_path / "mask.png", "--target", tmp_path / "target.png", "--device", "cpu", "-q",
        "--set", "stages=[{size: 16, steps: 1}]", "--out", tmp_path / "out",
    )  # fmt: skip
    assert answer.code == 0, answer


# ---------------------------------------------------------------------- recipes


def test_an_unknown_recipe(refuse: Refuse) -> None:
    said = refuse(page="magik")
    assert said.startswith("Unknown recipe 'magik'. Did you mean 'magic'? Known: deep-dream, ")
    assert said.endswith("or give the path of a .yaml file.")


def test_a_recipe_file_that_is_missing(refuse: Refuse, tmp_path: Path) -> None:
    assert refuse(page=tmp_path / "no.yaml") == f"{tmp_path}/no.yaml: no such recipe file."


CONTROL = "objective.smooth"


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("stagez=3", "stagez: unknown key 'stagez'. Did you mean 'stages'? Known: version, "),
        ("fit=fill", "fit: expected 'stretch', 'crop' or 'keep', got 'fill'."),
        ("inputs=[picture]", "inputs.0: expected 'image', 'mask' or 'target', got 'picture'."),
        ("result=better", "result: expected 'best' or 'last', got 'better'."),
        ("version=2", "version: expected 1, got 2."),
        ("objective={}", "objective: dictionary should have at least 1 item"),
        ("stages=[]", "stages: tuple should have at least 1 item"),
        ("stages.0.steps=0", "stages.0.steps: input should be greater than or equal to 1, got 0."),
        ("stages.0.steps=many", "stages.0.steps: input should be a valid integer"),
        ("stages.0.size=1.5", "stages.0.size: input should be a valid integer"),
        ("stages.0.stepz=2", "stages.0.stepz: unknown key 'stepz'. Did you mean 'steps'?"),
        ("variable=null", "variable: input should be a valid dictionary, got None."),
        (f"{CONTROL}.weight=nan", f"{CONTROL}.weight: expected a finite number, got nan."),
        (f"{CONTROL}.weight=.inf", f"{CONTROL}.weight: expected a finite number, got inf."),
        (f"{CONTROL}.weight=heavy", f"{CONTROL}.weight: input should be a valid number"),
        (
            f"{CONTROL}.weight={{type: liner, start: 0, stop: 1}}",
            f"{CONTROL}.weight: expected a number or a schedule of type linear, piecewise, "
            "cosine, got type 'liner'. Did you mean 'linear'?",
        ),
        (f"{CONTROL}.weight={{type: linear, start: 0}}", f"{CONTROL}.weight.stop: missing; this"),
        (
            f"{CONTROL}.region=inside",
            f"{CONTROL}.region: expected 'everywhere', 'object', 'background', 'untouched' or "
            "'vacated', got 'inside'.",
        ),
        (f"{CONTROL}.region=objekt", "got 'objekt'. Did you mean 'object'?"),
        (f"{CONTROL}.start=-1", f"{CONTROL}.start: input should be greater than or equal to 0"),
        (
            f"{CONTROL}.type=total_varation",
            f"{CONTROL}.type: unknown objective 'total_varation'. Did you mean 'total_variation'? "
            "Known: activation, ",
        ),
        (
            f"{CONTROL}.fom=l1",
            f"{CONTROL}.fom: unknown key 'fom'. Did you mean 'form'? Known: ",
        ),
        (f"{CONTROL}.wieght=3", f"{CONTROL}.wieght: unknown key 'wieght'. Did you mean 'weight'?"),
        (f"{CONTROL}.form=l3", f"{CONTROL}.form: expected "),
        ("variable.type=pixel", "variable.type: unknown variable 'pixel'. Did you mean 'pixels'?"),
        ("variable.noise=loud", "variable.noise: input should be a valid number"),
        ("variable.noise=nan", "variable.noise: expected a finite number, got nan."),
        ("variable={start: noise}", "variable: expected a part such as {type: fourier}, got {'st"),
        ("optimizer.type=adamm", "optimizer.type: unknown optimizer 'adamm'. Did you mean 'adam'?"),
        (
            "optimizer={type: clip, inner: {type: adan}}",
            "optimizer.inner.type: unknown optimizer 'adan'. Did you mean 'adam'?",
        ),
        ("optimizer={type: clip, inner: 3}", "optimizer.inner: "),
        ("optimizer={type: torch, name: Addam}", "optimizer: "),
        ("players={critic: {type: pach_critic}}", "Did you mean 'patch_critic'?"),
        ("models={net: {type: embeded}}", "models.net.type: unknown model 'embeded'. Did you mean"),
        (
            "models={net: {type: torchvision, name: resnet51}}",
            "models.net: name: torchvision has no classifier 'resnet51'. Did you mean 'resnet50'?",
        ),
        (
            "models={net: {type: timm, name: resnet5x}}",
            "models.net: name: timm has no classifier 'resnet5x'. Did you mean 'resnet50'?",
        ),
        (
            "models={net: {type: robust, name: resnet50-l3}}",
            "models.net: name: unknown robust classifier 'resnet50-l3'; expected ARCHITECTURE-",
        ),
        (
            "objective.class={type: cross_entropy}",
            "objective.class.model: no model 'classifier' in `models`; known: none.",
        ),
        (
            "objective.critic={type: critic_score}",
            "objective.critic.player: no player 'critic' in `players`; known: none.",
        ),
        ("objektive.x=1", "--set objektive.x: there is no 'objektive'. Did you mean 'objective'?"),
        ("objective.smoth.weight=1", "there is no 'objective.smoth'. Did you mean 'smooth'?"),
        ("stages.7.size=1", "--set stages.7.size: stages is a list of 2; expected an index from 0"),
        ("name.x=1", "--set name.x: name is 'tiny', which has no part 'x'."),
        ("name", "--set name: expected KEY.KEY=VALUE, such as `objective.control.weight=20`."),
        ("name=[", "--set name, line 1: not a readable recipe: "),
    ],
)  # fmt: skip
def test_a_wrong_recipe_is_told_with_the_path_to_the_fault(
    refuse: Refuse, setting: str, sentence: str
) -> None:
    said = refuse("--set", setting)
    assert sentence in said
    if not sentence.startswith(("got", "Did", "there")):
        assert said.startswith(sentence)


def test_an_unknown_layer(refuse: Refuse) -> None:
    said = refuse(
        "--set", "models={classifier: {type: embedded}}",
        "--set", "objective.dream={type: activation, layer: layer9}",
    )  # fmt: skip
    assert said.startswith("objective.dream: the embedded KitNet (10 classes, l2 ε = ")
    assert "has no layer 'layer9'. Did you mean 'layer" in said
    assert said.endswith("Its outermost layers are: stem, layer1, layer2, layer3, fc.")


def test_a_class_that_the_network_lacks() -> None:
    made = prepare_job(
        tiny_file := "deepinversion",
        overrides=["objective.class.target=12", "stages=[{size: 16, steps: 1}]"],
        models={"classifier": tiny_classifier(torch.float32)},
        device="cpu",
    )
    assert tiny_file in str(made.page.name)
    with pytest.raises(InvertkitError, match="Class 12 is outside 0–4"):
        dry_run(made)


def test_an_unknown_choice_and_option(refuse: Refuse) -> None:
    assert refuse("--choose", "bugdet=full", page="magic") == (
        "Recipe 'magic' has no choice 'bugdet'; it has: mode, budget."
    )
    assert refuse("--budget", "prevew", page="magic") == (
        "choices.budget: no option 'prevew'. Did you mean 'preview'? Known: full, preview."
    )
    assert refuse("--choose", "budget", page="magic") == (
        "--choose budget: expected CHOICE=OPTION, such as mode=location."
    )
    assert refuse("--budget", "full") == "Recipe 'tiny' has no choice 'budget'; it has: none."


def test_an_unknown_command_and_option() -> None:
    assert "No such command 'rum'" in invertkit("rum").sentence
    said = invertkit("run", "magic", "--seed", "three").err
    assert "Invalid value for '--seed'" in said
    assert "valid int" in said
    assert "No such option: --budgit" in invertkit("run", "--budgit", "full").err


@pytest.mark.parametrize("seeds", ["0", "-3"])
def test_no_seeds(refuse: Refuse, seeds: str) -> None:
    assert refuse("--seeds", seeds) == f"seeds: expected at least 1 image, got {seeds}."


def test_a_fault_in_a_page_of_ones_own_is_told_with_its_line(
    refuse: Refuse, tmp_path: Path
) -> None:
    page = write_page(tmp_path)
    text = page.read_text().replace("steps: 4", "steps: four")
    line = next(i for i, row in enumerate(text.split("\n"), 1) if "four" in row)
    page.write_text(text)
    said = refuse(page=page)
    assert said.startswith(f"stages.1.steps (line {line}): input should be a valid integer")
    assert said.endswith("got 'four'.")


def test_a_fault_in_a_parts_options_is_told_with_its_line(refuse: Refuse, tmp_path: Path) -> None:
    page = write_page(tmp_path)
    text = page.read_text().replace("lr: 0.05", "lr: fast")
    line = next(i for i, row in enumerate(text.split("\n"), 1) if "fast" in row)
    page.write_text(text)
    said = refuse(page=page)
    assert said.startswith(f"optimizer.lr (line {line}): ")
    assert said.endswith("got 'fast'.")


def test_an_image_that_moves_under_its_masks(refuse: Refuse) -> None:
    said = refuse("--set", "variable={type: jitter, inner: {type: pixels}}")
    assert said.startswith("variable.type: `jitter` moves the image and its masks would not follow")


def test_a_recipe_whose_name_no_disk_can_hold(refuse: Refuse, tmp_path: Path) -> None:
    said = refuse(page=tmp_path / f"{'x' * 300}.yaml")
    assert said.endswith("x.yaml: cannot be read (File name too long).")


def test_two_faults_are_two_sentences(tmp_path: Path) -> None:
    page = write_page(tmp_path, fit="fill", result="better")
    answer = invertkit("check", page, "--device", "cpu")
    assert answer.code == 2
    assert answer.err.strip().split("\n") == [
        "invertkit: fit (line 7): expected 'stretch', 'crop' or 'keep', got 'fill'.",
        "result (line 31): expected 'best' or 'last', got 'better'. Did you mean 'best'?",
    ]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("name: a\nname: b\n", "own.yaml, line 2: not a readable recipe: the key 'name' stands tw"),
        ("name: a\nfit:\n\tx: 1\n", "own.yaml, line 3: not a readable recipe: found character"),
        ("name: [1, 2\n", "own.yaml, line 2: not a readable recipe: "),
        ("[1]: a\n", "own.yaml, line 1: not a readable recipe: a key must be a word."),
        ("- a\n- b\n", "own.yaml: expected a mapping of keys to values, got ['a', 'b']."),
        ("", "own.yaml: expected a mapping of keys to values, got None."),
        ("just words", "own.yaml: expected a mapping of keys to values, got 'just words'."),
        ("\x00", "own.yaml: not a readable recipe: "),
        ("[" * 1200, "own.yaml: not a readable recipe: "),
        ("extends: own.yaml\n", "recipes extend each other in a ring: own.yaml -> own.yaml."),
        ("extends: 3\n", "own.yaml: extends: expected a recipe's name or path, got 3."),
        ("extends: magik\n", "Unknown recipe 'magik'. Did you mean 'magic'?"),
        ("extends: other.yaml\n", "other.yaml: no such recipe file."),
        ("extends: magic\nchoices: 3\n", "choices"),
        (
            "extends: magic\nchoices: {budget: 3}\n",
            "choices.budget (line 2): input should be a valid dict",
        ),
        ("extends: magic\nchoices: {budget: {default: 3}}\n", "choices.budget.default"),
        ("extends: magic\nnotes: 3\n", "notes"),
        ("extends: magic\nchosen: 3\n", "chosen"),
    ],
)
def test_a_page_that_cannot_be_read(
    refuse: Refuse, tmp_path: Path, text: str, sentence: str
) -> None:
    assert sentence in refuse(page=write(tmp_path / "own.yaml", text))


def test_a_page_that_is_not_text(refuse: Refuse, tmp_path: Path) -> None:
    said = refuse(page=write(tmp_path / "own.yaml", b"\xff\xfe\x00\xd8name"))
    assert "own.yaml: cannot be read (" in said


def test_pages_that_extend_each_other_in_a_ring(refuse: Refuse, tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", "extends: b.yaml\n")
    write(tmp_path / "b.yaml", "extends: a.yaml\n")
    said = refuse(page=tmp_path / "a.yaml")
    assert said.endswith("recipes extend each other in a ring: a.yaml -> b.yaml -> a.yaml.")


@pytest.mark.parametrize(
    "tag", ["!!python/object/apply:os.mkdir [{0}]", "!!python/name:os.system ''", "!own x"]
)
def test_a_page_cannot_run_code(refuse: Refuse, tmp_path: Path, tag: str) -> None:
    ran = tmp_path / "ran"
    page = write(tmp_path / "own.yaml", f"name: {tag.format(ran)}\n")
    assert "own.yaml, line 1: not a readable recipe: could not determine a constr" in refuse(
        page=page
    )
    assert not ran.exists()


# ---------------------------------------------------------------------- weights


@pytest.fixture(scope="module")
def network() -> dict[str, Tensor]:
    from torchvision import models

    with torch.random.fork_rng(devices=[]):
        return dict(models.get_model(NETWORK, weights=None).state_dict())


@pytest.fixture
def weights_fault(refuse: Refuse) -> Callable[[Path], str]:
    return lambda path: refuse(
        "--set", f"models={{net: {{type: torchvision, name: {NETWORK}, weights: {path}}}}}"
    )


WeightsFault = Callable[[Path], str]


def test_weights_that_are_missing(weights_fault: WeightsFault, tmp_path: Path) -> None:
    said = weights_fault(tmp_path / "w.pt")
    assert said == f"models.net: {tmp_path}/w.pt: no such weights file."


@pytest.mark.parametrize("keep", [0, 5, 1000, 0.5, 0.99])
def test_truncated_safetensors(
    weights_fault: WeightsFault, tmp_path: Path, network: dict[str, Tensor], keep: float
) -> None:
    save_file(network, tmp_path / "whole.safetensors")
    data = (tmp_path / "whole.safetensors").read_bytes()
    kept = int(keep * len(data)) if isinstance(keep, float) else keep
    said = weights_fault(write(tmp_path / "w.safetensors", data[:kept]))
    assert said.startswith(f"models.net: {tmp_path}/w.safetensors: is not a whole safetensors file")
    assert said.endswith("Copy or download it again.")


@pytest.mark.parametrize("keep", [0, 5, 1000, 0.5, 0.99])
def test_truncated_pytorch_checkpoints(
    weights_fault: WeightsFault, tmp_path: Path, network: dict[str, Tensor], keep: float
) -> None:
    torch.save(network, tmp_path / "whole.pt")
    data = (tmp_path / "whole.pt").read_bytes()
    kept = int(keep * len(data)) if isinstance(keep, float) else keep
    said = weights_fault(write(tmp_path / "w.pt", data[:kept]))
    assert said.startswith(f"models.net: {tmp_path}/w.pt: is not a whole PyTorch or safetensors ")
    assert said.endswith("Copy or download it again.")


@pytest.mark.parametrize("data", [b"I am a text, not a network. " * 9, b"\x80\x02}q\x00."])
def test_a_file_that_holds_no_weights(
    weights_fault: WeightsFault, tmp_path: Path, data: bytes
) -> None:
    said = weights_fault(write(tmp_path / "w.pt", data))
    assert said.startswith(f"models.net: {tmp_path}/w.pt: ")


def test_weights_of_another_network(weights_fault: WeightsFault, tmp_path: Path) -> None:
    save_file(tiny_classifier().net.state_dict(), tmp_path / "w.safetensors")
    said = weights_fault(tmp_path / "w.safetensors")
    assert f"{tmp_path}/w.safetensors: belongs to another network than ShuffleNetV2" in said
    assert " missing (" in said
    assert " unknown (" in said
    assert said.endswith("Name the architecture these weights were trained for.")


def test_weights_of_the_same_network_with_one_entry_of_another_size(
    weights_fault: WeightsFault, tmp_path: Path, network: dict[str, Tensor]
) -> None:
    other = {**network, "fc.weight": torch.zeros(10, 1024)}
    save_file(other, tmp_path / "w.safetensors")
    said = weights_fault(tmp_path / "w.safetensors")
    assert "1 of another shape (fc.weight is (10, 1024) instead of (1000, 1024))" in said


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_weights_that_need_code_are_refused_and_the_code_does_not_run(
    weights_fault: WeightsFault, tmp_path: Path, network: dict[str, Tensor]
) -> None:
    torch.save({"state_dict": network, "extra": Payload(tmp_path / "ran")}, tmp_path / "w.pt")
    assert weights_fault(tmp_path / "w.pt") == (
        f"models.net: {tmp_path}/w.pt: holds more than tensors, and reading it would run code from "
        f"the file (posix.mkdir). If you trust where it comes from, convert it once: `invertkit "
        f"models convert {tmp_path}/w.pt w.safetensors --trust`."
    )
    assert not (tmp_path / "ran").exists()
    answer = invertkit("models", "convert", tmp_path / "w.pt", tmp_path / "w.safetensors")
    assert "would run code" in answer.sentence
    assert not (tmp_path / "ran").exists()

    answer = invertkit(
        "models", "convert", tmp_path / "w.pt", tmp_path / "w.safetensors", "--trust"
    )
    assert answer.code == 0, answer
    assert (tmp_path / "ran").exists()
    assert answer.out == f"{tmp_path}/w.safetensors: {len(network)} tensors.\n"
    back = read_weights(tmp_path / "w.safetensors")
    assert all(torch.equal(back[key], value) for key, value in network.items())


def test_a_file_of_the_old_format_that_needs_code_is_refused(
    weights_fault: WeightsFault, tmp_path: Path
) -> None:
    import pickle

    write(tmp_path / "w.pt", pickle.dumps(Payload(tmp_path / "ran")))
    assert "w.pt: " in weights_fault(tmp_path / "w.pt")
    assert not (tmp_path / "ran").exists()


def test_converting_overwrites_nothing(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(2)}, tmp_path / "w.pt")
    write(tmp_path / "w.safetensors", "mine")
    assert invertkit(
        "models", "convert", tmp_path / "w.pt", tmp_path / "w.safetensors"
    ).sentence == (f"{tmp_path}/w.safetensors: exists already, and nothing is overwritten.")
    assert "expected a name ending in .safetensors" in (
        invertkit("models", "convert", tmp_path / "w.pt", tmp_path / "w.bin").sentence
    )
    assert "cannot be written" in (
        invertkit(
            "models", "convert", tmp_path / "w.pt", tmp_path / "no" / "w.safetensors"
        ).sentence
    )
    assert "no such weights file" in (
        invertkit(
            "models", "convert", tmp_path / "no.pt", tmp_path / "x.safetensors", "--trust"
        ).sentence
    )
    write(tmp_path / "bad.pt", b"\x80\x02garbage")
    assert "is not a whole PyTorch" in (
        invertkit(
            "models", "convert", tmp_path / "bad.pt", tmp_path / "x.safetensors", "--trust"
        ).sentence
    )


def test_tensors_that_share_memory_are_converted(tmp_path: Path) -> None:
    shared = torch.arange(6.0)
    torch.save({"a": shared, "b": shared, "c": shared[2:]}, tmp_path / "w.pt")
    made = convert_weights(tmp_path / "w.pt", tmp_path / "w.safetensors", trust=False)
    assert made["tensors"] == 3
    assert torch.equal(read_weights(tmp_path / "w.safetensors")["c"], shared[2:])


def test_the_embedded_format_is_told_from_others(refuse: Refuse, tmp_path: Path) -> None:
    save_file(KitNet(2, widths=(4, 4, 8, 8)).state_dict(), tmp_path / "w.safetensors")
    said = refuse("--set", f"models={{net: {{type: embedded, weights: {tmp_path}/w.safetensors}}}}")
    assert "w.safetensors: was not made by `invertkit train classifier`" in said
    half = EMBEDDED.read_bytes()[:5000]
    write(tmp_path / "half.safetensors", half)
    said = refuse(
        "--set", f"models={{net: {{type: embedded, weights: {tmp_path}/half.safetensors}}}}"
    )
    assert "half.safetensors: is not a whole safetensors file" in said


def test_weights_that_cannot_be_fetched(
    refuse: Refuse, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    said = refuse("--set", f"models={{net: {{type: torchvision, name: {NETWORK}}}}}")
    assert said.startswith(f"models.net: The weights of torchvision's {NETWORK} are not in the ca")
    assert "are not in the cache and cannot be fetched (HF_HUB_OFFLINE is set). Connect to" in said
    assert "`weights:` (or `--weights`), or use the embedded classifier" in said
    for word in ("{type: robust, name: resnet50-l2-eps1}", "resnet50-l2-eps1"):
        said = refuse("--set", f"models={{net: {word}}}")
        assert "weights of madrylab/robust-imagenet-models/resnet50_l2_eps1.ckpt are not" in said


# ---------------------------------------------------------------------- folders and devices


def out_fault(tmp_path: Path, out: Path) -> str:
    options = write_inputs(tmp_path)
    return invertkit(
        "run", write_page(tmp_path), *options, "--device", "cpu", "--out", out
    ).sentence


def test_an_output_folder_that_holds_something(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    write(tmp_path / "full" / "mine.txt", "precious")
    assert out_fault(tmp_path, tmp_path / "full") == (
        f"{tmp_path}/full: exists and is not empty, and nothing is overwritten. Choose another "
        "`--out`."
    )
    (tmp_path / "full" / "checkpoint").mkdir()
    assert f"or go on with it: `invertkit resume {tmp_path}/full`." in out_fault(
        tmp_path, tmp_path / "full"
    )
    assert (tmp_path / "full" / "mine.txt").read_text() == "precious"


def test_an_output_folder_that_is_a_file(tmp_path: Path) -> None:
    write(tmp_path / "file", "")
    assert out_fault(tmp_path, tmp_path / "file") == (
        f"{tmp_path}/file: is a file; `--out` names a folder to make."
    )


@pytest.mark.parametrize("place", ["file/below", "x" * 300, "/proc/invertkit"])
def test_an_output_folder_that_cannot_be_written(tmp_path: Path, place: str) -> None:
    write(tmp_path / "file", "")
    said = out_fault(tmp_path, tmp_path / place)
    assert said.startswith(f"{tmp_path / place}: cannot be written (")
    assert said.endswith("Choose another `--out`.")


def test_an_empty_output_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    answer = invertkit(
        "run", write_page(tmp_path), *write_inputs(tmp_path), "--device", "cpu", "-q", "--out",
        tmp_path / "empty",
    )  # fmt: skip
    assert answer.code == 0
    assert answer.out == f"{tmp_path}/empty/result.png\n"


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:7"])
def test_cuda_asked_for_and_absent(
    refuse: Refuse, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert refuse("--device", device) == (
        f"device: '{device}' was asked for, but this machine has no CUDA device that PyTorch can "
        "use. Use `--device cpu`, or install a CUDA build of PyTorch."
    )


def test_one_cuda_device_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick_device("auto").type == "cuda"
    assert pick_device("cuda:1").index == 1
    with pytest.raises(InputError, match="this machine has 2 CUDA devices that PyTorch can use"):
        pick_device("cuda:2")


@pytest.mark.parametrize("device", ["gpu", "mps", "meta", ""])
def test_a_device_that_means_nothing(refuse: Refuse, device: str) -> None:
    assert refuse("--device", device) == (
        f"device: expected auto, cpu, cuda or cuda:N, got {device!r}."
    )


# ---------------------------------------------------------------------- disks


def full_disk(*arguments: object, **options: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_leaves_the_checkpoint_before_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, mask, target = scene_tensors()
    page, out, save = write_page(tmp_path), tmp_path / "out", torch.save

    def fill(report: Any) -> None:
        if report.step == 4:
            monkeypatch.setattr(torch, "save", full_disk)

    with pytest.raises(InputError) as fault:
        package.run(
            page, image=image, mask=mask, target=target, device="cpu", out=out,
            checkpoint_every=0, observers=[fill],
        )  # fmt: skip
    assert str(fault.value) == (
        f"{out}/checkpoint/state.pt: the checkpoint cannot be written ([Errno 28] No space left on "
        f"device). The one before is whole: make room, then `invertkit resume {out}`."
    )
    assert (load(out).now or {})["run"]["step"] == 3
    assert sorted(path.name for path in (out / "checkpoint").iterdir()) == ["begun.pt", "state.pt"]

    monkeypatch.setattr(torch, "save", save)
    whole = package.run(page, image=image, mask=mask, target=target, device="cpu")
    assert torch.equal(package.resume(out).images, whole.images)


def test_a_disk_that_fills_while_the_result_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = write_inputs(tmp_path)
    page, out = write_page(tmp_path), tmp_path / "out"
    write_text = Path.write_text

    def full(self: Path, *arguments: Any, **keywords: Any) -> int:
        if self.name == "report.html":
            full_disk()
        return write_text(self, *arguments, **keywords)

    monkeypatch.setattr(Path, "write_text", full)
    answer = invertkit("run", page, *options, "--out", out, "--device", "cpu", "-q")
    assert answer.sentence == (
        f"{out}: cannot be written (No space left on device). Make room and run `invertkit resume "
        f"{out}`: the checkpoint there is whole."
    )
    monkeypatch.undo()
    assert invertkit("resume", out, "-q").code == 0
    assert (out / "report.html").is_file()


@pytest.mark.parametrize("name", ["begun.pt", "state.pt"])
def test_a_checkpoint_that_cannot_be_read(tmp_path: Path, name: str) -> None:
    image, mask, target = scene_tensors()
    out = tmp_path / "out"
    package.run(write_page(tmp_path), image=image, mask=mask, target=target, device="cpu", out=out)
    file = out / "checkpoint" / name
    data = file.read_bytes()
    for damaged in (b"", b"text", data[: len(data) // 2]):
        file.write_bytes(damaged)
        said = invertkit("resume", out).sentence
        assert said.startswith(f"{out}: its checkpoint cannot be read (")
    file.unlink()
    assert "holds no checkpoint" in invertkit("resume", out).sentence


def test_a_folder_without_a_checkpoint(tmp_path: Path) -> None:
    assert invertkit("resume", tmp_path / "none").sentence == (
        f"{tmp_path}/none: holds no checkpoint; expected the folder of a run that was begun with "
        "`invertkit run`, such as runs/magic-…"
    )


def test_a_checkpoint_of_another_format(tmp_path: Path) -> None:
    place = tmp_path / "checkpoint"
    place.mkdir()
    torch.save({"format": 9}, place / "begun.pt")
    torch.save({}, place / "state.pt")
    assert invertkit("resume", tmp_path).sentence == (
        f"{tmp_path}: its checkpoint has format 9, this version reads {FORMAT}."
    )


# ---------------------------------------------------------------------- parts of one's own


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "no such file; `--parts` names a Python file with your parts."),
        ("def broken(:\n", "cannot be imported (SyntaxError: invalid syntax"),
        ("import not_a_module_at_all\n", "cannot be imported (ModuleNotFoundError: No module nam"),
        ("raise SystemExit(3)\n", "cannot be imported (SystemExit: 3)."),
        ("1 / 0\n", "cannot be imported (ZeroDivisionError: division by zero)."),
        (
            "from invertkit import Objective\nx = 3\n",
            "defines no part. A part is a class derived from Objective, Variable, Optimizer, Playe",
        ),
    ],
)
def test_a_file_of_parts_that_cannot_be_used(
    refuse: Refuse, tmp_path: Path, text: str | None, sentence: str
) -> None:
    path = tmp_path / "mine.py"
    if text is not None:
        path.write_text(text)
    assert refuse("--parts", path).startswith(f"{path}: {sentence}")


def test_a_file_of_parts_that_is_not_python(refuse: Refuse, tmp_path: Path) -> None:
    path = write(tmp_path / "mine.txt", "x = 3")
    assert refuse("--parts", path) == (
        f"{path}: not a Python file; `--parts` names a file ending in .py."
    )


def test_a_part_with_a_wrong_option_is_told_with_its_path(refuse: Refuse, tmp_path: Path) -> None:
    path = write(
        tmp_path / "mine.py",
        "from invertkit import Objective\n\n\nclass MeanRed(Objective):\n"
        "    def __init__(self, *, aim: float = 0.5) -> None:\n"
        "        if aim > 1:\n"
        "            raise ValueError('aim is a colour, so at most 1.')\n\n"
        "    def forward(self, view):\n        return view.image[:, 0].mean((1, 2))\n",
    )
    told = {
        "{type: mean_red, aim: high}": "objective.red.aim: input should be a valid number",
        "{type: mean_red, aim: 3}": "objective.red: aim is a colour, so at most 1",
        "{type: mean_rod}": "objective.red.type: unknown objective 'mean_rod'. Did you mean 'mean_",
    }
    for node, sentence in told.items():
        said = refuse("--parts", path, "--set", f"objective.red={node}")
        assert said.startswith(sentence)


def test_errors_have_one_root() -> None:
    assert issubclass(InputError, InvertkitError)
    assert issubclass(RecipeError, InvertkitError)
    with pytest.raises(RecipeError):
        prepare_job(tiny_page()["name"])


def test_the_demonstration_needs_the_package_that_carries_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import invertkit.core.images.demo as module

    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="comes with scikit-learn; install it"):
        module.demo_inputs()


def test_a_checkpoint_folder_that_cannot_be_made(tmp_path: Path) -> None:
    from invertkit.runs.checkpoint import Saver
    from invertkit.runs.settings import Settings

    write(tmp_path / "checkpoint", "a file is in the way")
    with pytest.raises(InputError, match="checkpoint: cannot be made"):
        Saver(tmp_path, every=1).begin({}, [], Settings())

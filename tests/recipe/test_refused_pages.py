"""Pages and parts of one's own that cannot be used: the path to the fault, and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from invertkit.errors import InputError, InvertkitError, RecipeError
from invertkit.runs.dry_run import dry_run
from invertkit.runs.prepare import prepare_job
from tests.faces import invertkit, tiny_page, write_page
from tests.faults import Refuse, write
from tests.helpers import KITNET, tiny_classifier

pytestmark = pytest.mark.usefixtures("offline")


def test_an_unknown_recipe(refuse: Refuse) -> None:
    said = refuse(page="magik")
    assert said.startswith("Unknown recipe 'magik'. Did you mean 'magic'? Known: adaptive-")
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
        ("demo={image: 3}", "demo.image: input should be a valid string, got 3."),
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
        ("variable={start: noise}", "variable: expected a part such as {type: augmented}, got {"),
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
        "--set", f"models={{classifier: {KITNET}}}",
        "--set", "objective.dream={type: activation, layer: layer9}",
    )  # fmt: skip
    assert said.startswith("objective.dream: kitnet.safetensors KitNet (10 classes, l2 ε = ")
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
        "choices.budget: no option 'prevew'. Did you mean 'preview'? "
        "Known: full, standard, preview."
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
        (
            "extends: magic\nchoices: {a: {default: b, options: {b: {extends: 3}}}}\n",
            "own.yaml: choices.a.options.b.extends: expected a recipe's name or path, got 3.",
        ),
        (
            "extends: magic\nchoices: {a: {default: b, options: {b: {extends: own.yaml}}}}\n",
            "recipes extend each other in a ring: own.yaml -> own.yaml.",
        ),
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

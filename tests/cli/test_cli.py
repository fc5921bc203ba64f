from __future__ import annotations

import json
import os
import re
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import invertkit as package
from invertkit.runs.checkpoint import load
from tests.faces import TINY, invertkit, write_inputs, write_page
from tests.helpers import KITNET

INPUTS = ("image", "mask", "target")
HEAVY = ("torch", "torchvision", "timm", "numpy", "sklearn", "rich.progress")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
FILES = [
    "checkpoint/batch-0.pt",
    "checkpoint/begun.pt",
    "checkpoint/state.pt",
    "history.csv",
    "images/seed-0-best.png",
    "images/seed-0-last.png",
    "metrics.json",
    "recipe.yaml",
    "report.html",
    "result.png",
]


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def start(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "invertkit", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT,
    )  # fmt: skip


# ---------------------------------------------------------------------- what needs no torch


def test_what_only_reads_does_not_import_torch() -> None:
    script = f"""
import sys
from invertkit.cli import main
for arguments in (["--help"], ["--version"], ["recipes"], ["show", "magic"], ["run", "--help"],
                  ["show", "deepinversion", "--choose", "setting=2", "--set", "result=last"],
                  ["check", "--schema"]):
    sys.argv = ["invertkit", *arguments]
    try:
        main()
    except SystemExit as end:
        assert not end.code, (arguments, end.code)
    heavy = [name for name in {HEAVY!r} if name in sys.modules]
    assert not heavy, (arguments, heavy)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=ENVIRONMENT, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_help_names_every_command() -> None:
    answer = invertkit("--help")
    assert answer.code == 0
    for command in ("run", "resume", "recipes", "show", "new", "check", "models", "train"):
        assert re.search(rf"\b{command}\b", answer.out)
    assert "classifier" in invertkit("train", "--help").out
    assert "Usage" in invertkit().out + invertkit().err


def test_the_version_is_printed() -> None:
    assert invertkit("--version").out == f"invertkit {package.__version__}\n"


def test_recipes_are_listed_with_a_line_each() -> None:
    lines = invertkit("recipes").out.strip().split("\n")
    assert [line.split()[0] for line in lines] == package.recipe_names()
    assert all(len(line.split()) > 4 for line in lines)


def test_a_shown_recipe_is_resolved() -> None:
    answer = invertkit(
        "show", "magic", "--budget", "full", "--choose", "mode=location", "--set",
        "objective.control.weight=20",
    )  # fmt: skip
    assert answer.code == 0
    assert "choices:" not in answer.out
    assert "smooth_l1: null" in answer.out
    assert re.search(r"control:\n +type: mask_bce\n +weight: 20\n", answer.out)
    assert "budget: full" in answer.out
    assert "Unknown recipe" in invertkit("show", "magik").sentence


def test_the_schema_is_json() -> None:
    answer = invertkit("check", "--schema")
    assert json.loads(answer.out)["$schema"].startswith("https://json-schema.org/")


# ---------------------------------------------------------------------- pages of one's own


def test_a_new_page_starts_from_a_recipe_and_is_checked(tmp_path: Path) -> None:
    page = tmp_path / "mine.yaml"
    answer = invertkit("new", page, "--from", "deepinversion")
    assert answer.code == 0
    assert answer.out.startswith(f"{page}: written from deepinversion. Edit it, then `invertkit ch")
    text = page.read_text()
    assert text.startswith("# yaml-language-server: $schema=recipe.schema.json\n# DeepInversion:")
    assert "\nname: mine\n" in text
    small = ["--set", "stages=[{size: 16, steps: 2}]", "--device", "cpu"]
    assert (
        invertkit("check", page, *small).out == f"{page}: is a valid recipe; 2 trial steps ran.\n"
    )
    assert invertkit("new", page).sentence == (
        f"{page}: exists already, and nothing is overwritten. Choose another name."
    )
    assert "cannot be written" in invertkit("new", tmp_path / "no" / "x.yaml").sentence
    assert "Unknown recipe" in invertkit("new", tmp_path / "y.yaml", "--from", "magik").sentence


@pytest.mark.parametrize("recipe", package.recipe_names())
def test_a_new_page_from_any_recipe_is_the_same_recipe(tmp_path: Path, recipe: str) -> None:
    page = tmp_path / "mine.yaml"
    invertkit("new", page, "--from", recipe)
    mine, theirs = (invertkit("show", which) for which in (page, recipe))
    assert mine.code == 0
    assert mine.out == theirs.out.replace(f"name: {recipe}\n", "name: mine\n", 1)


def test_check_needs_a_recipe_or_the_schema() -> None:
    assert "give a recipe, or --schema" in invertkit("check").err


def test_checking_a_page_with_a_fault_tells_it(tmp_path: Path) -> None:
    page = write_page(tmp_path, optimizer={"type": "adam", "lrr": 3})
    said = invertkit("check", page, "--device", "cpu").sentence
    assert re.match(
        r"optimizer\.lrr \(line \d+\): unknown key 'lrr'\. Did you mean 'lr'\? Known: ", said
    )


# ---------------------------------------------------------------------- running


def test_a_run_leaves_its_folder_and_says_what_it_did(tmp_path: Path) -> None:
    out = tmp_path / "out"
    answer = invertkit(
        "run", write_page(tmp_path), *write_inputs(tmp_path), "--out", out, "--device", "cpu",
        "--set", f"models={{classifier: {KITNET}}}",
        "--set", "objective.class={type: cross_entropy, weight: 0.1}",
    )  # fmt: skip
    assert answer.code == 0
    assert answer.out == f"{out}/result.png\n"
    assert files(out) == FILES
    assert "Model: kitnet.safetensors KitNet (10 classes" in answer.err
    assert re.search(r"The run took every step it was given\. 7 steps, [\d.]+ s\.", answer.err)
    report = (out / "report.html").read_text()
    links = re.findall(r"""(?:src|href|action)\s*=\s*["']?([^"'\s>]+)""", report)
    assert links
    assert all(link.startswith(("data:", "#")) for link in links)
    assert "@import" not in report
    assert "data:image/webp" in report
    page = (out / "recipe.yaml").read_text()
    assert f"# Resolved by invertkit {package.__version__} on " in page
    assert re.search(
        r"# Model classifier: kitnet.safetensors KitNet \(.*sha256 [0-9a-f]{12}\)\.", page
    )
    assert "device cpu, seeds 0." in page
    assert json.loads((out / "metrics.json").read_text())["status"] == "finished"


def test_a_quiet_run_prints_the_picture_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = invertkit(
        "run", write_page(tmp_path), *write_inputs(tmp_path), "--device", "cpu", "-q",
        "--seed", "3", "--seeds", "2",
    )  # fmt: skip
    assert answer.err == ""
    match = re.fullmatch(r"(runs/tiny-\d{8}-\d{6})/result\.png\n", answer.out)
    assert match is not None
    names = [path.name for path in sorted((tmp_path / match[1] / "images").iterdir())]
    assert names == [
        "seed-3-best.png", "seed-3-last.png", "seed-4-best.png", "seed-4-last.png",
    ]  # fmt: skip


def test_the_judge_is_asked_when_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import invertkit.metrics.mask_iou as module
    from invertkit.metrics.judge import train_judge

    monkeypatch.setattr(
        module, "train_judge", lambda image, mask: train_judge(image, mask, steps=2)
    )
    out = tmp_path / "out"
    answer = invertkit(
        "run", write_page(tmp_path), *write_inputs(tmp_path), "--out", out, "--device", "cpu",
        "-q", "--judge",
    )  # fmt: skip
    assert answer.code == 0
    (entry,) = json.loads((out / "metrics.json").read_text())["images"]
    assert 0 <= entry["mask_iou"] <= 1


def test_a_loss_that_is_not_finite_is_exit_code_one(tmp_path: Path) -> None:
    answer = invertkit(
        "run", write_page(tmp_path), *write_inputs(tmp_path), "--out", tmp_path / "out",
        "--device", "cpu", "--set", "objective.smooth.weight={type: linear, start: 1, stop: 1e308}",
    )  # fmt: skip
    assert answer.code == 1
    assert "met a loss that is not a number or infinite" in answer.err
    assert (tmp_path / "out" / "result.png").is_file()


# ---------------------------------------------------------------------- surviving


def slow_page(folder: Path) -> Path:
    """Enough steps to be disturbed, with a player that learns."""
    return write_page(
        folder,
        objective={**TINY["objective"], "control": {"type": "mask_bce", "weight": 0.1}},
        players={"segmenter": {"type": "segmenter", "when": "during", "updates": 9999,
                               "width": 4}},
        stages=[{"size": 16, "steps": 200}, {"size": 24, "steps": 300}],
    )  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    answer = invertkit(
        "run", slow_page(folder), *write_inputs(folder), "--device", "cpu", "-q", "--out",
        folder / "out",
    )  # fmt: skip
    assert answer.code == 0, answer
    return folder


def begun(folder: Path, out: Path) -> subprocess.Popen[str]:
    """A process in the middle of the same run."""
    process = start(
        "run", folder / "tiny.yaml", *[
            part for name in INPUTS
            for part in (f"--{name}", folder / f"{name}.png")
        ], "--device", "cpu", "--out", out,
    )  # fmt: skip
    until = time.monotonic() + 90
    while not (out / "checkpoint" / "state.pt").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.02)
    time.sleep(0.3)  # some steps, and far from all
    return process


def same_bytes(out: Path, folder: Path) -> None:
    for name in ("result.png", "history.csv", "images/seed-0-last.png", "images/seed-0-best.png"):
        assert (out / name).read_bytes() == (folder / "out" / name).read_bytes(), name


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_process_saves_what_it_has_and_is_resumed(
    whole: Path, tmp_path: Path, number: signal.Signals
) -> None:
    out = tmp_path / "out"
    process = begun(whole, out)
    process.send_signal(number)
    printed, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert "was interrupted; `invertkit resume` continues it" in said
    assert printed == f"{out}/result.png\n"
    assert files(out) == [name for name in FILES if name != "checkpoint/batch-0.pt"]
    assert 0 < (load(out).now or {})["run"]["step"] < 500
    answer = invertkit("resume", out, "-q")
    assert answer.code == 0
    same_bytes(out, whole)


def test_a_killed_process_is_resumed_to_the_same_bytes(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    inputs = ", ".join(f"{name}={str(whole / name)!r} + '.png'" for name in INPUTS)
    script = (
        f"import invertkit; invertkit.run({str(whole / 'tiny.yaml')!r}, {inputs}, device='cpu', "
        f"out={str(out)!r}, checkpoint_every=0)"
    )
    process = subprocess.Popen([sys.executable, "-c", script], env=ENVIRONMENT)
    state, seen = out / "checkpoint" / "state.pt", set[int]()
    until = time.monotonic() + 90
    while len(seen) < 12:  # a write of the checkpoint is likely under way
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.002)
        if state.exists():
            seen.add(state.stat().st_mtime_ns)
    process.kill()
    assert process.wait(timeout=60) == -signal.SIGKILL
    assert not (out / "result.png").exists()
    assert 10 <= (load(out).now or {})["run"]["step"] < 500
    answer = invertkit("resume", out)
    assert answer.code == 0
    assert f"Going on with {out}." in answer.err
    same_bytes(out, whole)


# ---------------------------------------------------------------------- how it ends


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt, 130), (RuntimeError, None)])
def test_an_interruption_is_quiet_and_a_bug_is_not(
    monkeypatch: pytest.MonkeyPatch, error: type[BaseException], code: int | None
) -> None:
    import invertkit.recipe.overlay as module

    def fail() -> list[str]:
        raise error("by the test")

    monkeypatch.setattr(module, "recipe_names", fail)
    if code is None:
        with pytest.raises(error, match="by the test"):
            invertkit("recipes")
    else:
        assert invertkit("recipes").code == code


def test_the_module_is_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["invertkit", "--version"])
    with pytest.raises(SystemExit):
        runpy.run_module("invertkit", run_name="__main__")
    assert capsys.readouterr().out == f"invertkit {package.__version__}\n"


@pytest.mark.parametrize("name", ["out", "seeds", "recipe", "observers", "models"])
def test_no_input_is_called_like_an_argument(tmp_path: Path, name: str) -> None:
    answer = invertkit("run", write_page(tmp_path), "--input", f"{name}=x.png")
    assert answer.code == 2
    assert answer.err.startswith(f"invertkit: --input {name}=x.png: {name} is an argument of every")


def test_a_new_page_is_called_so_that_it_is_found(tmp_path: Path) -> None:
    answer = invertkit("new", tmp_path / "mine")
    assert answer.code == 2
    assert "mine.yaml" in answer.err
    assert not (tmp_path / "mine").exists()


@pytest.mark.parametrize(
    "raised", ["torch.OutOfMemoryError('CUDA out of memory. x')", "MemoryError"]
)
def test_a_full_memory_is_told_in_one_sentence(tmp_path: Path, raised: str) -> None:
    parts = tmp_path / "greedy.py"
    parts.write_text(
        "import torch\nfrom invertkit import Objective\n\nclass Greedy(Objective):\n"
        f"    def forward(self, view):\n        raise {raised}\n"
    )
    page = write_page(tmp_path, objective={"greedy": {"type": "greedy"}})
    answer = invertkit(
        "run", page, "--parts", parts, *write_inputs(tmp_path), "--out", tmp_path / "out", "-q"
    )
    assert answer.code == 2
    assert "ut of memory. Make fewer images side by side" in answer.err

from __future__ import annotations

import csv
import json
import math
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import invertkit as package
from invertkit.apps import finishing
from invertkit.core.images.demo import demo_inputs
from invertkit.engine.problem import Status
from invertkit.engine.run import StepReport
from invertkit.runs.carry_out import carry_out
from invertkit.runs.observers import STOP
from invertkit.runs.prepare import prepare_job
from invertkit.runs.result import Result
from tests.faces import TINY, picture, scene_tensors, write_inputs, write_page
from tests.helpers import KITNET, global_generators_unmoved, same, tiny_classifier

IMAGE, MASK, TARGET = scene_tensors()
STEPS = 7


@pytest.fixture
def page(tmp_path: Path) -> Path:
    return write_page(tmp_path)


def run(page: Path | str, **options: Any) -> Result:
    given = {"image": IMAGE, "mask": MASK, "target": TARGET, "device": "cpu"}
    return package.run(page, **{**given, **options})


def learning(folder: Path) -> Path:
    """A page with everything that a checkpoint must hold: players, a network, schedules."""
    return write_page(
        folder, "learning",
        models={"classifier": str(KITNET)},
        objective={
            **TINY["objective"],
            "class": {"type": "kl_divergence", "weight": 0.1},
            "swd": {"type": "patch_swd", "filters": 4, "kernel": 3, "weight": 0.1},
            "nearest": {"type": "nearest_patches", "kernel": 3, "every": 2, "weight": 0.1},
            "patches": {"type": "critic_score", "weight": 0.01},
            "control": {"type": "mask_bce", "weight": 0.1},
        },
        players={
            "critic": {"type": "patch_critic", "kernels": [3, 3, 1], "strides": [1, 2, 1],
                       "widths": [4, 4]},
            "segmenter": {"type": "segmenter", "when": "during", "updates": 5, "width": 4},
        },
        optimizer={"type": "clip", "inner": {"type": "adam",
                                             "lr": {"type": "cosine", "peak": 0.05}}},
    )  # fmt: skip


# ---------------------------------------------------------------------- what goes in


def test_paths_pictures_arrays_and_tensors_give_the_same_picture(
    page: Path, tmp_path: Path
) -> None:
    write_inputs(tmp_path)
    names = ("image", "mask", "target")
    kinds: list[Callable[[str, Tensor], Any]] = [
        lambda name, values: tmp_path / f"{name}.png",
        lambda name, values: str(tmp_path / f"{name}.png"),
        lambda name, values: picture(values),
        lambda name, values: np.asarray(picture(values)),
        lambda name, values: values[0].permute(1, 2, 0).numpy(),
        lambda name, values: values[0],
        lambda name, values: values.double(),
    ]
    expected = run(page).images
    for kind in kinds:
        inputs = dict(zip(names, (IMAGE, MASK, TARGET), strict=True))
        given = {name: kind(name, values) for name, values in inputs.items()}
        assert torch.equal(run(page, **given).images, expected)


def test_a_recipe_without_masks_takes_none(tmp_path: Path) -> None:
    terms = {"match": {"type": "pixel_distance"}}
    result = package.run(
        write_page(tmp_path, inputs=["image"], objective=terms), image=IMAGE, device="cpu"
    )
    assert result.images.shape == (1, 3, 17, 23)
    assert result.inputs.find("mask") is None
    assert result.sheet(height=32).width == 2 * round(23 * 32 / 17) + 4


def test_a_recipe_without_inputs_takes_none(tmp_path: Path) -> None:
    page = write_page(tmp_path, inputs=[], fit=None, objective={"size": {"type": "norm"}})
    result = package.run(page, device="cpu")
    assert result.images.shape == (1, 3, 20, 20)
    assert "<img" in result._repr_html_()


def test_without_inputs_the_demonstration_is_taken(tmp_path: Path) -> None:
    page = write_page(tmp_path, stages=[{"size": 16, "steps": 1}])
    result = package.run(page, device="cpu")
    demonstration = demo_inputs()
    assert result.inputs.find("image") is not None
    assert torch.equal(result.inputs.find("image"), demonstration.reference)


def test_overrides_are_texts_or_a_mapping(page: Path) -> None:
    as_texts = run(page, overrides=["optimizer.lr=0.1", "objective.match.weight=3"])
    as_mapping = run(page, overrides={"optimizer.lr": 0.1, "objective.match.weight": 3})
    assert torch.equal(as_texts.images, as_mapping.images)
    assert not torch.equal(as_texts.images, run(page).images)
    nested = run(page, overrides={"stages": [{"size": 16, "steps": 2}]})
    assert nested.steps == 2
    off = run(page, overrides={"objective.smooth": None})
    assert set(off.history) == {"match", "total"}


def test_any_module_may_stand_for_a_model(tmp_path: Path) -> None:
    class Mean(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.mean((2, 3))

    page = write_page(
        tmp_path, models={"classifier": str(KITNET)},
        objective={"class": {"type": "cross_entropy", "target": 2}},
        stages=[{"size": 16, "steps": 30}],
    )  # fmt: skip
    result = run(page, models={"classifier": Mean()})
    assert result.models == {"classifier": "a module given from Python"}
    means = result.images.mean((0, 2, 3))
    assert means[2] > means[:2].max() + 0.2
    named = run(page, models={"classifier": tiny_classifier(torch.float32)})
    assert named.models == {"classifier": "a tiny network"}
    assert "kitnet.safetensors KitNet" in run(page).models["classifier"]


# ---------------------------------------------------------------------- seeds


def test_a_seed_gives_the_same_picture_alone_and_among_others(page: Path) -> None:
    together = run(page, seed=2, seeds=3)
    assert together.seeds == (2, 3, 4)
    assert together.images.shape[0] == 3
    alone = run(page, seed=3)
    assert torch.equal(alone.images[0], together.images[1])
    assert torch.equal(alone.history["match"][0], together.history["match"][1])
    assert not torch.equal(together.images[0], together.images[1])


def test_images_solved_side_by_side_are_the_same_too(tmp_path: Path) -> None:
    job = prepare_job(
        learning(tmp_path), image=IMAGE, mask=MASK, target=TARGET, device="cpu", seeds=2
    )
    alone = carry_out(job)
    together = carry_out(job.using(batch=2))
    assert together.batches == (2,)
    assert alone.batches == (1, 1)
    assert torch.allclose(alone.last, together.last, atol=1e-3)
    assert together.history["match"].shape == alone.history["match"].shape == (2, STEPS)


def test_a_whole_run_leaves_the_global_generators_alone(tmp_path: Path) -> None:
    with global_generators_unmoved():
        run(learning(tmp_path), out=tmp_path / "out")
        package.resume(tmp_path / "out")


# ---------------------------------------------------------------------- what comes out


def test_a_result_says_everything(page: Path) -> None:
    result = run(page, seeds=2)
    assert result.images is result.last
    assert run(page, overrides={"result": "best"}).result == "best"
    assert result.images.shape == (2, 3, 17, 23)
    assert result.images.min() >= 0
    assert result.images.max() <= 1
    assert result.status is Status.FINISHED
    assert result.steps == STEPS
    assert result.seconds > 0
    assert result.device == "cpu"
    assert all(3 <= step < STEPS for step in result.best_steps)
    assert result.frames[0].dtype == torch.uint8
    assert len(result.pil()) == 2
    assert result.pil()[0].size == (23, 17)
    assert repr(result).startswith("<Result of 'tiny': 2 images of 23×17, 7 steps in ")
    assert repr(result).endswith("the run took every step it was given>")
    html = result._repr_html_()
    assert html.startswith('<img alt="result" src="data:image/png;base64,')
    assert "2 images of 23×17" in html


def test_the_best_image_has_the_lowest_loss_of_its_stage(page: Path) -> None:
    result = run(page)
    last_stage = result.history["total"][0, 3:]
    assert result.best_losses[0] == pytest.approx(last_stage.min().item())
    assert result.best_steps[0] == 3 + int(last_stage.argmin())


def test_the_total_is_the_weighted_sum_of_the_terms(tmp_path: Path) -> None:
    result = run(learning(tmp_path), seeds=2)
    for rows in result.rows:
        assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
        for row in rows:
            for i, loss in enumerate(row["losses"]):
                total = sum(row["weights"][name] * v[i] for name, v in row["values"].items())
                assert loss == pytest.approx(total, rel=1e-5)
    weights = [row["weights"]["smooth"] for row in result.rows[0]]
    assert weights == pytest.approx(np.linspace(1, 2, STEPS).tolist())
    assert result.history["total"].shape == (2, STEPS)


def test_a_term_that_does_not_count_yet_has_no_value(page: Path) -> None:
    result = run(page, overrides={"objective.match.start": 4})
    missing = result.history["match"][0].isnan()
    assert missing.tolist() == [True] * 4 + [False] * 3


FILES = [
    "history.csv",
    "images",
    "metrics.json",
    "recipe.yaml",
    "report.html",
    "result.png",
]


def test_a_result_is_saved_as_a_folder(page: Path, tmp_path: Path) -> None:
    result = run(page, seed=5, seeds=2)
    folder = result.save(tmp_path / "saved")
    assert sorted(path.name for path in folder.iterdir()) == FILES
    assert sorted(path.name for path in (folder / "images").iterdir()) == [
        "seed-5-best.png", "seed-5-last.png", "seed-6-best.png", "seed-6-last.png",
    ]  # fmt: skip
    with (folder / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * STEPS
    assert [row["seed"] for row in rows] == ["5"] * STEPS + ["6"] * STEPS
    first = rows[0]
    assert float(first["total"]) == pytest.approx(
        float(first["match"]) * float(first["match:weight"])
        + float(first["smooth"]) * float(first["smooth:weight"]),
        rel=1e-5,
    )
    facts = json.loads((folder / "metrics.json").read_text())
    assert facts["status"] == "finished"
    assert [entry["seed"] for entry in facts["images"]] == [5, 6]
    assert facts["images"][0]["bidirectional_similarity"] > 0
    with pytest.raises(package.InputError, match="exists and is not empty"):
        result.save(folder)


def test_a_run_with_a_folder_writes_the_same(page: Path, tmp_path: Path) -> None:
    result = run(page, out=tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["checkpoint", *FILES]
    saved = result.save(tmp_path / "saved")
    for name in ("result.png", "images/seed-0-last.png", "history.csv"):
        assert (tmp_path / "out" / name).read_bytes() == (saved / name).read_bytes()


def test_showing_opens_the_sheet(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    shown: list[tuple[int, int]] = []
    monkeypatch.setattr(Image.Image, "show", lambda self: shown.append(self.size))
    result = run(page)
    result.show()
    assert shown == [result.sheet().size]


def test_showing_in_a_notebook_displays_the_result(
    page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from types import ModuleType

    displayed: list[object] = []
    ipython, display = ModuleType("IPython"), ModuleType("IPython.display")
    vars(ipython)["get_ipython"] = lambda: object()
    vars(display)["display"] = displayed.append
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    result = run(page)
    result.show()
    assert displayed == [result]
    monkeypatch.setitem(vars(ipython), "get_ipython", lambda: None)
    monkeypatch.setattr(type(result.sheet()), "show", lambda self: displayed.append("window"))
    result.show()
    assert displayed == [result, "window"]


# ---------------------------------------------------------------------- observers


def test_observers_see_every_step_and_can_stop(page: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int, tuple[int, int]]] = []

    def watch(report: StepReport) -> object:
        seen.append((report.step, report.total, report.size))
        return STOP if report.step == 4 else None

    result = run(page, observers=[watch], out=tmp_path / "out", seeds=2)
    assert [step for step, _, _ in seen] == [1, 2, 3, 4]
    assert seen[0] == (1, STEPS, (14, 18))
    assert seen[3] == (4, STEPS, (17, 23))
    assert result.status is Status.STOPPED
    assert result.seeds == (0,)
    assert (tmp_path / "out" / "result.png").is_file()
    whole = package.resume(tmp_path / "out")
    assert torch.equal(whole.images, run(page, seeds=2).images)


def test_a_search_stopped_before_it_judges_gives_what_it_has(tmp_path: Path) -> None:
    """In its first generation `project` has compared nothing: no loss, but pictures and latents."""
    stop = lambda report: STOP if report.step == 2 else None
    result = package.run(
        "project", seeds=2, batch=2, device="cpu", observers=[stop], out=tmp_path / "out"
    )
    assert result.status is Status.STOPPED
    assert result.best_steps == (1, 1)
    assert all(math.isnan(loss) for loss in result.best_losses)
    assert torch.equal(result.best, result.last)
    assert {len(tensor) for tensor in result.tensors.values()} == {2}
    rows = json.loads((tmp_path / "out" / "metrics.json").read_text())["images"]
    assert [row["best_loss"] for row in rows] == [None, None]


def test_a_loss_that_is_not_finite_ends_the_run_with_its_last_picture(page: Path) -> None:
    rising = {"type": "linear", "start": 1, "stop": 1e308}
    result = run(page, overrides={"objective.smooth.weight": rising})
    assert result.status is Status.NON_FINITE
    assert result.best.isfinite().all()
    assert "not a number" in repr(result)


def test_the_progress_bar_shows_terms_and_images(page: Path) -> None:
    import io

    from rich.console import Console

    from invertkit.runs.progress import RunBar

    file = io.StringIO()
    with RunBar(images=2, console=Console(file=file, width=160, force_terminal=True)) as bar:
        run(page, seeds=2, observers=[bar])
    shown = file.getvalue()
    assert "image 2/2" in shown
    assert "23×17" in shown
    assert "7/7" in shown
    assert "match" in shown
    assert "smooth" in shown


def test_a_progress_bar_is_drawn_when_wanted(
    page: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(page, progress=True)
    assert "loss" in capsys.readouterr().err
    run(page)
    assert capsys.readouterr().err == ""


# ---------------------------------------------------------------------- surviving


def interrupt_at(calls: int, number: int = signal.SIGINT) -> Callable[[StepReport], None]:
    """An observer that sends the signal on its so-manieth call, over all images."""
    seen: list[StepReport] = []

    def watch(report: StepReport) -> None:
        seen.append(report)
        if len(seen) == calls:
            os.kill(os.getpid(), number)

    return watch


def folder_bytes(folder: Path) -> dict[str, bytes]:
    """What must be the same, byte by byte."""
    names = [
        "result.png",
        "history.csv",
        *(f"images/{p.name}" for p in (folder / "images").glob("*")),
    ]
    return {name: (folder / name).read_bytes() for name in sorted(names)}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Result]:
    folder = tmp_path_factory.mktemp("whole")
    page = learning(folder)
    return page, folder / "out", run(page, seeds=2, out=folder / "out")


@pytest.mark.parametrize("calls", [1, 2, 3, 4, 6, 7, 8, 11, 14])
def test_an_interrupted_run_goes_on_to_the_same_bytes(
    uninterrupted: tuple[Path, Path, Result], tmp_path: Path, calls: int
) -> None:
    page, folder, whole = uninterrupted
    out = tmp_path / "out"
    handler = signal.getsignal(signal.SIGINT)
    part = run(page, seeds=2, out=out, observers=[interrupt_at(calls)])
    assert signal.getsignal(signal.SIGINT) is handler
    assert part.status is Status.INTERRUPTED
    assert part.seeds == ((0,) if calls <= STEPS else (0, 1))
    assert (out / "images" / "seed-0-last.png").is_file()
    assert (out / "report.html").is_file()
    finished = package.resume(out)
    assert finished.status is Status.FINISHED
    assert torch.equal(finished.best, whole.best)
    assert torch.equal(finished.last, whole.last)
    assert same(finished.history, whole.history)
    assert finished.best_steps == whole.best_steps
    assert folder_bytes(out) == folder_bytes(folder)


def test_a_run_may_be_interrupted_again_and_again(
    uninterrupted: tuple[Path, Path, Result], tmp_path: Path
) -> None:
    page, folder, _ = uninterrupted
    out = tmp_path / "out"
    result = run(page, seeds=2, out=out, observers=[interrupt_at(2)])
    while result.status is Status.INTERRUPTED:
        result = package.resume(out, observers=[interrupt_at(3, signal.SIGTERM)])
    assert folder_bytes(out) == folder_bytes(folder)


def test_a_finished_run_can_be_resumed_and_stays_as_it_is(
    uninterrupted: tuple[Path, Path, Result],
) -> None:
    _, folder, whole = uninterrupted
    before = folder_bytes(folder)
    assert torch.equal(package.resume(folder).images, whole.images)
    assert folder_bytes(folder) == before


def test_a_resumed_run_takes_the_models_given_from_python(tmp_path: Path) -> None:
    page = write_page(
        tmp_path, models={"classifier": str(KITNET)},
        objective={"class": {"type": "cross_entropy", "target": 2}},
    )  # fmt: skip
    models = {"classifier": tiny_classifier(torch.float32)}
    whole = run(page, models=models)
    out = tmp_path / "out"
    run(page, models=models, out=out, observers=[interrupt_at(3)])
    with pytest.raises(package.InputError, match="was begun with objects given from Python"):
        package.resume(out)
    assert torch.equal(package.resume(out, models=models).images, whole.images)


def test_a_run_in_another_thread_leaves_signals_alone(page: Path) -> None:
    results: list[Result] = []
    thread = threading.Thread(target=lambda: results.append(run(page)))
    thread.start()
    thread.join()
    assert torch.equal(results[0].images, run(page).images)


def test_checkpoints_are_written_in_time(page: Path, tmp_path: Path) -> None:
    times: list[int] = []

    def watch(report: StepReport) -> None:
        state = (tmp_path / "out" / "checkpoint" / "state.pt").stat()
        times.append(state.st_mtime_ns)

    run(page, out=tmp_path / "out", observers=[watch], checkpoint_every=0)
    assert len(set(times)) == STEPS
    times.clear()
    (tmp_path / "out").rename(tmp_path / "first")
    run(page, out=tmp_path / "out", observers=[watch], checkpoint_every=1e6)
    assert len(set(times)) == 1


# ---------------------------------------------------------------------- the package's face


def test_the_public_names_are_alphabetical_and_there() -> None:
    assert list(package.__all__) == sorted(package.__all__)
    for name in package.__all__:
        assert getattr(package, name).__doc__
        assert name in dir(package)
    assert package.run is finishing.run
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = package.nothing


def test_the_version_is_that_of_the_distribution() -> None:
    from importlib.metadata import version

    assert package.__version__ == version("invertkit")


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = (
        "import sys, invertkit, invertkit.cli; from invertkit.recipe.overlay import read_raw;"
        "bare = [m for m in ('torch', 'torchvision', 'numpy') if m in sys.modules];"
        "read_raw('magic'); invertkit.recipe_names();"
        "print(bare, [m for m in ('torch', 'torchvision', 'timm') if m in sys.modules])"
    )
    alone = "import sys, invertkit; print([m for m in ('torch', 'yaml') if m in sys.modules])"
    for script, expected in ((code, "[] []\n"), (alone, "[]\n")):
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=False
        )
        assert done.stdout == expected, done.stderr


def test_a_job_is_solved_side_by_side_on_an_accelerator(page: Path) -> None:
    job = prepare_job(page, image=IMAGE, mask=MASK, target=TARGET, device="cpu", seeds=3)
    problem = job.problem(job.seeds[:1])
    assert [each.seeds for each in job.batches(problem)] == [(0,), (1,), (2,)]
    there = job.using(device="cuda")
    assert [each.seeds for each in there.batches(problem)] == [(0, 1, 2)]

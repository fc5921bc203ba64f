from __future__ import annotations

import csv
import json
import shutil
import signal
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from invertkit.apps.ablation import measures as measuring
from invertkit.apps.ablation import run as module
from invertkit.apps.ablation.plan import cases_in, changes, read_over, read_variant, variants_of
from invertkit.apps.ablation.run import ablate
from invertkit.apps.ablation.table import Ablation, AblationRow
from invertkit.core.images.save import to_picture
from invertkit.core.images.specs import SHORT, InputSpec
from invertkit.engine.run import StepReport
from invertkit.errors import InputError, RecipeError
from invertkit.metrics.judge import train_judge
from invertkit.metrics.mask_iou import mask_iou
from invertkit.metrics.patch_similarity import bidirectional_similarity
from invertkit.runs import api
from invertkit.runs.carry_out import carry_out
from tests.faces import (
    TINY,
    invertkit,
    picture,
    red_on_green,
    scene_tensors,
    write_inputs,
    write_page,
)
from tests.helpers import KITNET, global_generators_unmoved, tiny_classifier

CLASSIFIED: Mapping[str, Any] = {
    "models": {"classifier": str(KITNET)},
    "objective": {
        **TINY["objective"],
        "class": {"type": "cross_entropy", "target": "predicted", "weight": 0.01},
    },
    "stages": [{"size": 32, "steps": 2}],
}
TERMS = {"match", "smooth"}


@pytest.fixture
def page(tmp_path: Path) -> Path:
    return write_page(tmp_path)


@pytest.fixture
def classified(tmp_path: Path) -> Path:
    return write_page(tmp_path, "classified", **CLASSIFIED)


def inputs() -> dict[str, Any]:
    return dict(zip(("image", "mask", "target"), scene_tensors(), strict=True))


def tried(page: Path, **changes: Any) -> Ablation:
    options = {**inputs(), "progress": False, "device": "cpu", "judge": False, **changes}
    return ablate(page, **options)


def write_data(folder: Path, names: tuple[str, ...] = ("duck", "fish")) -> Path:
    for i, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        image, mask, target = red_on_green((24 + 4 * i, 24))
        picture(image).save(folder / name / "image.png")
        picture(mask).save(folder / name / "mask.png")
        picture(target).save(folder / name / "target_position.png")
        if not i:
            picture(mask.flip(3)).save(folder / name / "target_shape.png")
    return folder


def without_pictures(made: Ablation) -> list[tuple[Any, ...]]:
    return [(r.edit, r.variant, r.seed, r.state, dict(r.losses)) for r in made.rows]


def pixels(made: Ablation) -> list[bytes]:
    return [row.picture.tobytes() for row in made.rows if row.picture is not None]


class Counted:
    """Counts the calls of a function of a module, and makes chosen ones do something else."""

    def __init__(self, patch: pytest.MonkeyPatch, where: Any, name: str, **at: Any) -> None:
        self.count, self._real, self._at = 0, getattr(where, name), at
        patch.setattr(where, name, self)

    def __call__(self, *given: Any, **named: Any) -> Any:
        self.count += 1
        instead = self._at.get(f"at_{self.count}")
        return self._real(*given, **named) if instead is None else instead(*given, **named)


# ---------------------------------------------------------------------- the runs


def test_every_run_is_the_one_that_run_would_make(page: Path) -> None:
    tried(page)  # what is imported late may use the generators
    with global_generators_unmoved():
        made = tried(page, over={"objective.smooth.weight": [0.5, 4]}, seeds=2)
    assert [(row.variant, row.seed) for row in made.rows] == [
        ("smooth.weight=0.5", 0), ("smooth.weight=0.5", 1),
        ("smooth.weight=4", 0), ("smooth.weight=4", 1),
    ]  # fmt: skip
    for value in (0.5, 4):
        alone = api.run(
            page, **inputs(), seeds=2, device="cpu", progress=False,
            overrides={"objective.smooth.weight": value},
        )  # fmt: skip
        for i in range(2):
            row = made.of("photograph", f"smooth.weight={value}", i)
            assert row.state == "finished"
            assert row.picture is not None
            assert row.picture.tobytes() == to_picture(alone.images[i]).tobytes()
            last = {name: column[i, -1].item() for name, column in alone.history.items()}
            assert row.numbers["loss"] == last.pop("total")
            assert dict(row.losses) == last
            assert row.numbers["steps"] == 7


def test_the_best_image_has_the_losses_of_its_step(tmp_path: Path) -> None:
    page = write_page(tmp_path, result="best", optimizer={"type": "adam", "lr": 0.9})
    (row,) = tried(page).rows
    alone = api.run(page, **inputs(), device="cpu", progress=False)
    assert alone.best_steps[0] < alone.steps - 1
    assert row.numbers["loss"] == pytest.approx(alone.best_losses[0])
    assert row.losses["match"] == alone.history["match"][0, alone.best_steps[0]].item()


def test_the_numbers_are_those_of_the_judge_and_the_patches(
    page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "train_judge", partial(train_judge, steps=20))
    image, mask, target = red_on_green((32, 32))
    made = tried(page, image=image, mask=mask, target=target, judge=True)
    (row,) = made.rows
    result = api.run(page, image=image, mask=mask, target=target, device="cpu", progress=False)
    size = result.images.shape[-2:]
    fitted = result.inputs.at((size[0], size[1]), "keep")
    source, own, wanted = map(fitted.need, ("image", "mask", "target"))
    judge = train_judge(source, own, steps=20)
    iou = mask_iou(result.images, wanted, source, own, judge=judge).item()
    top = mask_iou(source, own, source, own, judge=judge).item()
    assert row.numbers["mask_iou"] == pytest.approx(iou)
    assert row.numbers["ceiling"] == pytest.approx(top)
    patches = bidirectional_similarity(result.images, source).item()
    assert row.numbers["patch_distance"] == pytest.approx(patches)


def test_classifiers_are_words_paths_and_modules_and_differ(
    classified: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Counted(monkeypatch, module, "opened_classifier")
    made = tried(
        classified,
        over={"classifier": {"word": str(KITNET), "path": KITNET,
                             "module": tiny_classifier(torch.float32)}},
        seeds=2,
    )  # fmt: skip
    assert opened.count == 3
    assert made.failed == []
    word, path, other = (
        [made.of("photograph", name, seed).picture for seed in range(2)]
        for name in ("word", "path", "module")
    )
    assert [p.tobytes() for p in word if p] == [p.tobytes() for p in path if p]
    assert [p.tobytes() for p in word if p] != [p.tobytes() for p in other if p]
    assert made.variants == {name: {"classifier": name} for name in ("word", "path", "module")}


def test_several_keys_give_every_combination(page: Path) -> None:
    made = tried(
        page,
        over={"objective.smooth.weight": [1, 2], "objective.match.weight": {"low": 1}},
        variants={"no smooth": {"objective.smooth": None}},
    )
    assert list(made.variants) == [
        "smooth.weight=1, match.weight=low", "smooth.weight=1, match.weight=low, no smooth",
        "smooth.weight=2, match.weight=low", "smooth.weight=2, match.weight=low, no smooth",
    ]  # fmt: skip
    assert [row.state for row in made.rows] == ["finished", "failed", "finished", "failed"] or all(
        row.state == "finished" for row in made.rows
    )
    assert set(made.rows[0].losses) == TERMS


def test_a_recipe_without_inputs_and_the_demonstration_have_their_names(tmp_path: Path) -> None:
    bare = write_page(
        tmp_path, "bare", inputs=[], fit="stretch", stages=[{"size": 16, "steps": 2}],
        objective={"smooth": TINY["objective"]["smooth"]},
    )  # fmt: skip
    nothing = {"image": None, "mask": None, "target": None}
    made = tried(bare, **nothing, over={"objective.smooth.weight": [1, 2]})
    assert [row.edit for row in made.rows] == ["bare", "bare"]
    assert set(made.rows[0].numbers) == {"loss", "seconds", "steps"}
    assert made.sheet().width == 2 * 128 + 4
    shown = tried(write_page(tmp_path, stages=[{"size": 16, "steps": 1}]), **nothing)
    assert shown.rows[0].edit == "demonstration"
    assert list(shown.sources["demonstration"]) == ["source", "mask", "target"]


def test_a_variant_without_a_term_lacks_its_column_alone(page: Path) -> None:
    made = tried(page, variants={"no smooth": ["objective.smooth=null"]})
    assert list(made.variants) == ["recipe", "no smooth"]
    assert [set(row.losses) for row in made.rows] == [TERMS, {"match"}]


# ---------------------------------------------------------------------- folders


def test_the_folder_holds_runs_sheet_and_tables(tmp_path: Path, page: Path) -> None:
    out = tmp_path / "out"
    made = tried(page, over={"objective.smooth.weight": [1, 2]}, out=out, seeds=2)
    assert sorted(path.name for path in out.iterdir()) == [
        "ablation.json", "differences.csv", "means.csv", "runs", "sheet.png", "table.csv",
    ]  # fmt: skip
    run = out / "runs" / "photograph" / "smooth.weight=1"
    assert {"cell.json", "recipe.yaml", "result.png", "report.html"} <= {
        path.name for path in run.iterdir()
    }
    with (out / "table.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["objective.smooth.weight"] for row in rows] == ["1", "1", "2", "2"]
    assert float(rows[3]["loss:match"]) == made.rows[3].losses["match"]
    said = json.loads((out / "ablation.json").read_text())
    assert said["rows"][2]["loss"] == made.rows[2].numbers["loss"]
    assert said["means"][0]["images"] == 2
    with Image.open(out / "sheet.png") as sheet:
        assert sheet.size == made.sheet().size


def test_what_is_done_is_not_done_again(
    tmp_path: Path, page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    over = {"objective.smooth.weight": [1, 2]}
    first = tried(page, over=over, out=out)
    runs = Counted(monkeypatch, module, "carry_out")
    again = tried(page, over=over, out=out)
    assert runs.count == 0
    assert without_pictures(again) == without_pictures(first)
    assert pixels(again) == pixels(first)
    assert again.means() == first.means()
    more = tried(page, over={"objective.smooth.weight": [2, 3, 1]}, out=out)
    assert runs.count == 1
    assert [row.state for row in more.rows] == ["finished"] * 3
    shutil.rmtree(out / "runs" / "photograph" / "smooth.weight=2")
    assert pixels(tried(page, over=over, out=out)) == pixels(first)
    assert runs.count == 2


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"overrides": {"objective.match.weight": 3}}, "objective.match.weight: 2.0 -> 3"),
        ({"seeds": 2}, "seeds: [0] -> [0, 1]"),
        ({"image": scene_tensors()[0].flip(3)}, "inputs.image"),
        ({"target": scene_tensors()[1]}, "inputs.target"),
    ],
)
def test_a_changed_setting_is_noticed_and_nothing_is_lost(
    tmp_path: Path, page: Path, changed: dict[str, Any], words: str
) -> None:
    out = tmp_path / "out"
    tried(page, out=out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(InputError) as caught:
        tried(page, out=out, **changed)
    assert words in str(caught.value)
    assert "other settings" in str(caught.value)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_changed_weights_behind_a_name_are_noticed(tmp_path: Path, classified: Path) -> None:
    weights = tmp_path / "net.safetensors"
    shutil.copy(KITNET, weights)
    over = {"classifier": [str(weights)]}
    out = tmp_path / "out"
    tried(classified, over=over, out=out)
    data = bytearray(weights.read_bytes())
    data[-100] ^= 1
    weights.write_bytes(bytes(data))
    with pytest.raises(InputError, match="other settings"):
        tried(classified, over=over, out=out)
    given = tiny_classifier(torch.float32)
    tried(classified, over={"classifier": {"own": given}}, out=tmp_path / "own")
    with torch.no_grad():
        next(given.parameters()).add_(1)
    same = tiny_classifier(torch.float32)
    tried(classified, over={"classifier": {"own": same}}, out=tmp_path / "own")
    with torch.no_grad():
        next((other := tiny_classifier(torch.float32)).parameters()).add_(1)
    with pytest.raises(InputError, match=r"models\.classifier"):
        tried(classified, over={"classifier": {"own": other}}, out=tmp_path / "own")


def test_other_folders_are_left_alone(tmp_path: Path, page: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="holds no ablation"):
        tried(page, out=out)
    place = tmp_path / "other" / "runs" / "photograph" / "recipe"
    place.mkdir(parents=True)
    (place / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="no ablation wrote"):
        tried(page, out=tmp_path / "other")
    assert [path.name for path in out.iterdir()] == ["letter.txt"]


# ---------------------------------------------------------------------- what goes wrong


def stopped_after(steps: int) -> Any:
    """A run that is interrupted, as Ctrl-C does, after so many steps."""

    def press(report: StepReport) -> None:
        if report.step == steps:
            signal.raise_signal(signal.SIGINT)

    def stopped(job: Any, **given: Any) -> Any:
        return carry_out(job, **{**given, "observers": (*given["observers"], press)})

    return stopped


def watch(patch: pytest.MonkeyPatch, steps: list[int]) -> None:
    """Note every step that is taken from now on."""

    def watched(job: Any, **given: Any) -> Any:
        def note(report: StepReport) -> None:
            steps.append(report.step)

        return carry_out(job, **{**given, "observers": (*given["observers"], note)})

    patch.setattr(module, "carry_out", watched)


def test_an_interrupted_ablation_goes_on_to_the_same_pictures(
    tmp_path: Path, page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = {"objective.smooth.weight": [1, 2, 3]}
    whole = tried(page, over=over)
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        Counted(patch, module, "carry_out", at_2=stopped_after(5))
        begun = tried(page, over=over, out=out)
    assert begun.interrupted
    assert [row.state for row in begun.rows] == ["finished", "interrupted", "missing"]
    assert (out / "sheet.png").is_file()
    steps: list[int] = []
    watch(monkeypatch, steps)
    done = tried(page, over=over, out=out)
    assert steps == [6, 7, 1, 2, 3, 4, 5, 6, 7]
    assert not done.interrupted
    assert without_pictures(done) == without_pictures(whole)
    assert pixels(done) == pixels(whole)


def test_an_interruption_while_judging_loses_no_run(
    tmp_path: Path, page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pressed(*_: Any) -> Any:
        raise KeyboardInterrupt

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        Counted(patch, measuring, "bidirectional_similarity", at_1=pressed)
        assert tried(page, out=out).interrupted
    steps: list[int] = []
    watch(monkeypatch, steps)
    done = tried(page, out=out)
    assert steps == []
    assert pixels(done) == pixels(tried(page))


def test_a_failing_variant_does_not_stop_the_others(
    tmp_path: Path, classified: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    weights = tmp_path / "later.safetensors"
    over = {"classifier": [str(weights), str(KITNET)]}
    made = tried(classified, over=over, out=out)
    assert [row.state for row in made.rows] == ["failed", "finished"]
    assert "later.safetensors: no such weights file" in made.failed[0].error
    assert made.means()[0]["failed"] == 1
    assert "1 failed" in made.table()
    shutil.copy(KITNET, weights)
    runs = Counted(monkeypatch, module, "carry_out")
    again = tried(classified, over=over, out=out)
    assert runs.count == 1
    assert [row.state for row in again.rows] == ["finished"] * 2
    assert again.failed == []


def test_a_loss_that_is_not_finite_is_told_of_and_kept(
    tmp_path: Path, page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    rising = {"type": "linear", "start": 1, "stop": 1e308}
    options = {"over": {"objective.smooth.weight": {"1": 1, "rising": rising}}, "out": out}
    made = tried(page, **options)
    assert [row.state for row in made.rows] == ["finished", "non_finite"]
    assert "not a number" in made.failed[0].error
    runs = Counted(monkeypatch, module, "carry_out")
    assert [row.state for row in tried(page, **options).rows] == ["finished", "non_finite"]
    assert runs.count == 0


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"over": {"objective.smoth.weight": [1]}}, "Did you mean 'smooth'?"),
        ({"over": {"classifer": ["embedded"]}}, "Did you mean 'classifier'?"),
        ({"over": {"classifier": ["embedded"]}}, "no model of that name"),
        ({"over": {"objective.smooth.weight": []}}, "at least one value"),
        ({"over": {"objective.smooth.weight": [1, 1]}}, "two are called"),
        ({"over": {"objective.smooth.weight": {"a/b": 1, "a?b": 2}}, "out": "out"}, "labels"),
        ({"overrides": {"objective.smooth.form": "l7"}}, "objective.smooth"),
        ({"image": "nowhere.jpg"}, "nowhere.jpg: no such file"),
        ({"data": "nowhere"}, "not both"),
        ({"only": ["duck"]}, "data"),
        ({"seeds": 0}, "seeds"),
        ({"device": "abacus"}, "device"),
    ],
)
def test_mistakes_are_told_before_anything_runs(
    tmp_path: Path, page: Path, changed: dict[str, Any], words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    runs = Counted(monkeypatch, module, "carry_out")
    out = tmp_path / "out"
    with pytest.raises((InputError, RecipeError)) as caught:
        tried(page, **{"out": out, **changed, **({"out": out} if "out" in changed else {})})
    assert words in str(caught.value)
    assert runs.count == 0
    assert not out.exists()


# ---------------------------------------------------------------------- photographs


def test_a_folder_of_photographs_is_run_edit_by_edit_with_one_judge_each(
    tmp_path: Path, page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_data(tmp_path / "data")
    monkeypatch.setattr(measuring, "train_judge", partial(train_judge, steps=20))
    judges = Counted(monkeypatch, measuring, "train_judge")
    options = {"image": None, "mask": None, "target": None, "judge": True,
               "over": {"objective.smooth.weight": [1, 2]}, "out": tmp_path / "out"}  # fmt: skip
    made = tried(page, data=data, **options)
    edits = ["duck position", "duck shape", "fish position"]
    assert [row.edit for row in made.rows] == [edit for edit in edits for _ in range(2)]
    assert judges.count == 2
    assert all(0 <= row.numbers["mask_iou"] <= 1 for row in made.rows)
    assert len({row.numbers["ceiling"] for row in made.rows if row.edit[:4] == "duck"}) == 1
    shutil.rmtree(tmp_path / "out" / "runs" / "fish-position")
    again = tried(page, data=data, **options)
    assert judges.count == 2
    assert [dict(row.losses) for row in again.rows] == [dict(row.losses) for row in made.rows]
    assert [row.numbers["mask_iou"] for row in again.rows] == [
        row.numbers["mask_iou"] for row in made.rows
    ]
    (mean, _) = made.means()
    ious = torch.tensor([made.of(edit, "smooth.weight=1").numbers["mask_iou"] for edit in edits])
    assert mean["mask_iou"] == pytest.approx((ious.mean().item(), ious.std().item() / 3**0.5))
    assert mean["mask_iou_lowest"] == pytest.approx(ious.min().item())


def test_a_mask_that_does_not_fit_is_told_of_with_its_photograph(
    tmp_path: Path, page: Path
) -> None:
    data = write_data(tmp_path / "data")
    shutil.copy(data / "duck" / "mask.png", data / "fish" / "mask.png")
    with pytest.raises(InputError, match=r"data/fish: mask: is 24×24 pixels, the image is 24×28"):
        tried(page, data=data, image=None, mask=None, target=None, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_without_a_folder_a_judge_is_trained_once_too(
    page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "train_judge", partial(train_judge, steps=2))
    judges = Counted(monkeypatch, measuring, "train_judge")
    tried(page, judge=True, over={"objective.smooth.weight": [1, 2]}, seeds=2)
    assert judges.count == 1


def test_some_of_the_photographs_may_be_chosen(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    assert [edit.name for edit in cases_in(data, SHORT)] == [
        "duck position", "duck shape", "fish position",
    ]  # fmt: skip
    assert [edit.name for edit in cases_in(data, SHORT, ["duck"])] == [
        "duck position",
        "duck shape",
    ]
    chosen = cases_in(data, SHORT, ["fish", "duck:shape"])
    assert [edit.name for edit in chosen] == ["duck shape", "fish position"]
    for wanted in ("goose", "duck:colour"):
        with pytest.raises(InputError, match=r"Known: duck, fish\."):
            cases_in(data, SHORT, [wanted])
    (data / "fish" / "mask.png").unlink()
    with pytest.raises(InputError, match=r"fish: has no mask: expected a picture 'mask' there"):
        cases_in(data, SHORT)
    (data / "fish" / "target_position.png").unlink()
    assert list(cases_in(data, {"image": InputSpec()})[-1].inputs) == ["image"]
    with pytest.raises(InputError, match="holds no photographs"):
        cases_in(data / "fish", SHORT)
    with pytest.raises(InputError, match="no such folder"):
        cases_in(data / "goose", SHORT)


# ---------------------------------------------------------------------- tables and texts


@pytest.mark.parametrize("edits", [1, 6, 23, 60])
def test_every_row_is_on_a_sheet_that_is_no_ribbon(edits: int) -> None:
    names = [f"edit {i}" for i in range(edits)]
    square = Image.new("RGB", (32, 32), "red")
    rows = tuple(AblationRow(name, "v", 0, "finished", picture=square) for name in names)
    grey = torch.full((3, 32, 32), 0.5)
    made = Ablation(rows, {"v": {}}, {name: {"source": grey} for name in names}, {})
    sheet = made.sheet(height=64)
    red = sum(count for count, colour in sheet.getcolors(1 << 20) or () if colour == (255, 0, 0))
    assert red == edits * 64 * 64
    assert sheet.height < 2.5 * sheet.width


def test_seeds_are_averaged_before_the_error_is_taken() -> None:
    rows = [
        AblationRow(edit, "v", seed, "finished", {"loss": loss})
        for edit, losses in (("a", (1.0, 3.0)), ("b", (5.0, 5.0)))
        for seed, loss in enumerate(losses)
    ]
    rows.append(AblationRow("c", "v", 0, "failed"))
    made = Ablation(tuple(rows), {"v": {}}, {}, {})
    (mean,) = made.means()
    assert mean["loss"] == pytest.approx((3.5, 1.5))
    assert (mean["images"], mean["failed"]) == (4, 1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.b=1,2", ("a.b", ["1", "2"])),
        ("a={type: adam, lr: [1, 2]},null", ("a", ["{type: adam, lr: [1, 2]}", "null"])),
        ("a='x,y',z", ("a", ["'x,y'", "z"])),
        ("a=low=1,high=2", ("a", {"low": "1", "high": "2"})),
        ("classifier=ε=0=x.pt,embedded", ("classifier", ["ε=0=x.pt", "embedded"])),
    ],
)
def test_values_are_split_at_the_commas_between_them(text: str, expected: Any) -> None:
    assert read_over(text) == expected


@pytest.mark.parametrize("text", ["a", "a=", "=1", "a=1,,2", "a=1,"])
def test_what_is_no_key_with_values_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="KEY=VALUE,VALUE"):
        read_over(text)


@pytest.mark.parametrize("text", ["a", "a:", ":b=1", "a:b", "a:b=1;c"])
def test_what_is_no_variant_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="NAME:KEY=VALUE"):
        read_variant(text)
    assert read_variant("no x: a.b=null; c=1") == ("no x", ["a.b=null", "c=1"])


def test_without_anything_to_vary_there_is_the_recipe() -> None:
    (only,) = variants_of({}, {})
    assert (only.name, only.sets) == ("recipe", ())


def test_changes_are_told_by_their_path() -> None:
    before = {"a": {"b": 1, "c": 2}, "d": [1]}
    assert list(changes(before, {"a": {"b": 1, "c": 3}, "d": [1]})) == ["a.c: 2 -> 3"]
    assert list(changes(before, {"a": {"b": 1, "c": 2}})) == ["d: [1] -> None"]
    assert list(changes(before, before)) == []


# ---------------------------------------------------------------------- the command


def test_the_command_compares_and_goes_on(tmp_path: Path, classified: Path) -> None:
    out = tmp_path / "out"
    command = (
        "ablate", classified, *write_inputs(tmp_path), "--over",
        f"classifier=one={KITNET},two={tmp_path / 'two.safetensors'}", "--no-judge",
        "--out", out,
    )  # fmt: skip
    answer = invertkit(*command)
    assert answer.code == 1, answer
    assert "image, two: failed" in answer.err
    assert answer.out == f"{out / 'sheet.png'}\n"
    shutil.copy(KITNET, tmp_path / "two.safetensors")
    answer = invertkit(*command)
    assert answer.code == 0, answer
    assert "1 of 2 runs are done." in answer.err
    assert "patch distance" in answer.err
    quiet = invertkit(*command, "-q")
    assert (quiet.code, quiet.err) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--over", "classifier"], "KEY=VALUE,VALUE"),
        (["--over", "a=1", "--over", "a=2"], "given twice"),
        (["--variant", "x"], "NAME:KEY=VALUE"),
        (["--over", "stages.0.stops=1,2"], "stops"),
        (["--data", "nowhere"], "nowhere: no such folder"),
        (["--image", "nowhere.jpg"], "nowhere.jpg: no such file."),
    ],
)
def test_the_commands_mistakes_are_one_sentence(
    tmp_path: Path, page: Path, arguments: list[str], words: str
) -> None:
    answer = invertkit("ablate", page, "-q", *arguments, "--out", tmp_path / "out")
    assert words in answer.sentence
    assert not (tmp_path / "out").exists()

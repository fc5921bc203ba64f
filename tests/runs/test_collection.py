"""Images of several photographs in one batch come out as each would alone."""

from __future__ import annotations

import contextlib
import csv
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import invertkit as package
from invertkit.core.images.inputs import Inputs
from invertkit.core.images.load import load_image
from invertkit.core.images.specs import InputSpec
from invertkit.core.scene import Scene
from invertkit.engine.problem import Problem, Status, Term
from invertkit.engine.run import Run, StepReport
from invertkit.errors import InputError, WriteError
from invertkit.objectives.priors import TotalVariation
from invertkit.objectives.statistics import BatchNormStatistics
from invertkit.optimizers.torch_optim import LBFGS
from invertkit.players.critic import PatchCritic
from invertkit.players.segmenter import Segmenter
from invertkit.recipe.page import specs_of, validate
from invertkit.runs.collection import load_each
from invertkit.runs.job import Job
from invertkit.runs.observers import STOP
from invertkit.runs.prepare import prepare_job
from invertkit.runs.result import Result
from invertkit.runs.settings import Settings
from tests.faces import invertkit, picture, tiny_page, write_page
from tests.helpers import make_problem, same, tiny_classifier, tiny_perceptual, uniform
from tests.recipe.test_recipes import COMBINATIONS, tiny_job, tiny_projection

ROOT = Path(__file__).parents[2]
PAGE = validate(tiny_page())
PROBLEM = make_problem(Term(TotalVariation(), name="tv"))
FULL = {"mode": "synthesis", "budget": "full"}
PREVIEWS = {recipe: wanted for recipe, wanted in COMBINATIONS if wanted.get("budget") != "full"}
COUPLED = "lbfgs"

CASES = [
    (recipe, wanted)
    for recipe, wanted in COMBINATIONS
    # What words say of one photograph is project-manifold's projection, or a map of its own.
    if recipe not in ("blend", "collage")
    if not recipe.startswith("project")
    or wanted["budget"] == "preview"
    or (recipe in ("project", "project-adam") and wanted["transform"] == "spatial-colour")
    or (recipe == "project-adam" and {"with", "random", "gaussian"} & set(wanted.values()))
]
"""Every page of pixels, and of projections each optimizer and each start."""


@pytest.fixture
def double() -> Iterator[None]:
    """Everything in float64, so that what differs by rounding stays together for some steps."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def photographs(count: int, size: tuple[int, int] = (48, 48)) -> tuple[Inputs, ...]:
    """Blots of different colours at different places, each to be moved elsewhere."""
    made = []
    for number in range(count):
        mask, target = torch.zeros(2, 1, 1, *size)
        top, left, side = 8 + 3 * number, 6 + 5 * number, 14 + 2 * number
        mask[..., top : top + side, left : left + side - 3] = 1
        target[..., 12 : 12 + side, 24 - 4 * number : 20 - 4 * number + side] = 1
        inside, outside = uniform(2, 1, 3, 1, 1, seed=number, dtype=torch.float32)
        noise = 0.2 * uniform(1, 3, *size, seed=10 + number, dtype=torch.float32)
        image = (0.8 * (mask * inside + (1 - mask) * outside) + noise).clamp(0, 1)
        made.append(
            Inputs.of({"image": image, "mask": mask, "target": target}, name=f"photograph {number}")
        )
    return tuple(made)


def doubled(problem: Problem) -> Problem:
    """The same with inputs in float64."""

    def scene(size: tuple[int, int]) -> Scene:
        made = problem.scene(size)

        return replace(made, inputs=made.inputs.map(Tensor.double))

    return replace(problem, scene=scene)


def made(problem: Problem, *, compile: str = "off") -> tuple[Tensor, Tensor, Tensor]:
    """Every loss on the way, the last images, and the best; two steps a stage."""
    stages = [
        replace(stage, steps=min(stage.steps, 2), optimizer=problem.optimizer_of(i).trial())
        for i, stage in enumerate(problem.stages)
    ]
    run = Run(doubled(replace(problem, stages=stages)), compile=compile)  # type: ignore[arg-type]
    losses = torch.stack([report.losses for report in run.steps()], 1)
    return losses, run.last_images(), run.best_images()


def job_of(recipe: str, wanted: dict[str, str]) -> Job:
    """A recipe over three photographs, with small networks in float64."""
    projects = recipe.startswith("project")
    job = tiny_projection(recipe, wanted) if projects else tiny_job(recipe, wanted, sizes=(32, 40))
    models = {"classifier": tiny_classifier(torch.float64)}
    if projects:
        models |= {**job.settings.models, **models, "perceptual": tiny_perceptual(torch.float64)}
        for model in models.values():
            model.double()
    if not projects:
        models = dict.fromkeys(job.settings.models, models["classifier"])
    given = tuple(as_asked(each, job.page.specs) for each in photographs(3))
    return replace(job.using(models=models), photographs=given)


def as_asked(inputs: Inputs, specs: Mapping[str, InputSpec]) -> Inputs:
    """By the recipe's own names; a second photograph is the first one turned over."""
    values = {
        name: inputs[name] if name in inputs else inputs["image"].flip(2 + turned)
        for turned, name in enumerate(specs)
    }
    return Inputs(values, specs, inputs.name)


def couples(job: Job) -> bool:
    """Whether its parts would mix photographs, so that none share a batch."""
    together = job.using(batch=6, seed=3, seeds=2)
    return all(len(set(batch.of)) == 1 for batch in together.batches(job.problem((3,))))


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize(
    ("recipe", "wanted"), CASES, ids=[f"{r} {' '.join(w.values())}" for r, w in CASES]
)
def test_photographs_in_one_batch_come_out_as_each_alone(
    recipe: str, wanted: dict[str, str]
) -> None:
    job = job_of(recipe, wanted)
    coupled = COUPLED in (recipe.removeprefix("project-"), wanted.get("optimizer"))
    assert couples(job) == coupled
    if coupled:
        return
    seeds, of = (3, 5) * 3, (0, 0, 2, 2, 1, 1)
    together = made(job.problem(seeds, of))
    for row, (seed, number) in enumerate(zip(seeds, of, strict=True)):
        alone = made(job.problem((seed,), (number,)))
        for ours, theirs in zip(together, alone, strict=True):
            torch.testing.assert_close(ours[row : row + 1], theirs, rtol=1e-6, atol=1e-8)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("memory", [None, 0, 10**6])
@pytest.mark.parametrize("recipe", ["magic-swift", "project-cma-adam"])
def test_chunks_of_several_photographs_are_as_the_whole(recipe: str, memory: int | None) -> None:
    job = job_of(recipe, PREVIEWS[recipe])
    problem = replace(job.problem((3, 5) * 3, (2, 2, 0, 0, 1, 1)), players={}, memory=memory)
    kept = [term for term in problem.terms if not term.objective.players()]
    problem = replace(problem, terms=kept)
    whole = made(replace(problem, memory=None))
    for ours, theirs in zip(made(problem), whole, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10)


def test_several_photographs_are_replayed_to_the_same_run() -> None:
    job = job_of("magic", FULL)
    job = job.using(models={"classifier": tiny_classifier(torch.float32)})
    stages = [stage.model_copy(update={"steps": 20}) for _, stage in job.page.in_order()]
    job = replace(job, page=job.page.model_copy(update={"stages": tuple(stages[:1])}))
    plain, replayed = (
        Run(job.problem((3, 3, 3), (0, 1, 2)), compile=how) for how in ("off", "graph")
    )
    for ours, theirs in zip(replayed.steps(), plain.steps(), strict=True):
        assert torch.equal(ours.readings, theirs.readings)
    assert replayed.replays.replayed > 4
    assert torch.equal(replayed.last_images(), plain.last_images())


def test_images_of_one_photograph_share_its_segmenter() -> None:
    job = job_of("magic", FULL)
    job = job.using(models={"classifier": tiny_classifier(torch.float32)})
    run = Run(job.problem((3, 5) * 2, (0, 0, 2, 2)))
    run.go_to(0)
    segmenter = run.problem.players["segmenter"]
    assert isinstance(segmenter, Segmenter)
    assert segmenter.net is not None
    assert segmenter.net.networks == 2


# ---------------------------------------------------------------------- which share a batch

shapes = st.sampled_from([(48, 48), (48, 64), (64, 48)])


@given(
    sizes=st.lists(shapes, min_size=1, max_size=7),
    seeds=st.integers(1, 7),
    batch=st.none() | st.integers(1, 9),
    device=st.sampled_from(["cpu", "cuda"]),
    fit=st.sampled_from(["keep", "crop"]),
)
def test_every_image_has_its_batch(
    sizes: list[tuple[int, int]], seeds: int, batch: int | None, device: str, fit: str
) -> None:
    job = Job(
        page=PAGE.model_copy(update={"fit": fit}),
        raw={},
        photographs=tuple(Inputs.of({"image": torch.zeros(1, 3, *s)}) for s in sizes),
        settings=Settings(seed=10, seeds=seeds, device=device, batch=batch),
    )
    most = batch or (1 if device == "cpu" else 16)
    batches = job.batches(PROBLEM)
    pairs = [pair for each in batches for pair in zip(each.of, each.seeds, strict=True)]
    assert sorted(pairs) == [(n, seed) for n in range(len(sizes)) for seed in job.seeds]
    for each in batches:
        assert len(each.seeds) <= most
        shared = list(dict.fromkeys(each.of))
        counts = {each.of.count(number) for number in shared}
        assert len(counts) == 1, "as many of each photograph"
        assert sorted(each.of, key=shared.index) == list(each.of), "side by side"
        assert fit == "crop" or len({sizes[number] for number in shared}) == 1
    if fit == "crop" and most >= seeds:  # as few batches as can be
        assert len(batches) == -(-len(sizes) // (most // seeds))


def test_parts_that_mix_images_keep_photographs_apart() -> None:
    job = job_of("magic", PREVIEWS["magic"]).using(batch=6, seed=3, seeds=2)
    problem = job.problem((3,))
    assert [each.of for each in job.batches(problem)] == [(0, 0, 1, 1, 2, 2)]
    for changed in (
        replace(problem, players={"critic": PatchCritic(shared=True)}),
        replace(problem, terms=[Term(TotalVariation(form="l2", coupled=True), name="tv")]),
        replace(problem, terms=[Term(BatchNormStatistics(coupled=True), name="bn")]),
    ):
        assert [each.of for each in job.batches(changed)] == [(0, 0), (1, 1), (2, 2)]
    alone = replace(problem, optimizer=LBFGS())
    assert [each.of for each in job.batches(alone)] == [(0,), (0,), (1,), (1,), (2,), (2,)]


# ---------------------------------------------------------------------- what goes in


def folder_of(path: Path, count: int = 3, **names: str) -> Path:
    """`path/photograph N/{image,mask,target}.png`."""
    for inputs in photographs(count, (24, 32)):
        (path / inputs.name).mkdir(parents=True)
        for kind in ("image", "mask", "target"):
            tensor = inputs.need(kind)
            picture(tensor).save(path / inputs.name / f"{names.get(kind, kind)}.png")
    (path / ".hidden").mkdir(exist_ok=True)
    (path / "notes.txt").write_text("no photograph")
    return path


def loaded(given_: Any, wanted: Sequence[str], files: Any = None) -> tuple[Inputs, ...]:
    """With `target` as an input that a run may do without, where it is not wanted."""
    return load_each(given_, {**OPTIONAL, **specs_of(tuple(wanted))}, files)


OPTIONAL = {"image": InputSpec(), "target": InputSpec("mask", of="image", optional=True)}


def test_a_folder_a_list_and_names_of_files_mean_the_same(tmp_path: Path) -> None:
    plain = loaded(folder_of(tmp_path / "a"), ["image", "mask", "target"])
    named = folder_of(tmp_path / "b", target="target_position")
    wanted = ["image", "mask"]
    other = loaded(named, wanted, {"target": "target_position"})
    with_ending = loaded(str(named), wanted, {"target": "target_position.png", "mask": None})
    listed = loaded(
        [
            {"name": f"photograph {n}", **{
                kind: tmp_path / "a" / f"photograph {n}" / f"{kind}.png"
                for kind in ("image", "mask", "target")
            }}
            for n in range(3)
        ],
        wanted,
    )  # fmt: skip
    for way in (other, with_ending, listed):
        for ours, theirs in zip(way, plain, strict=True):
            assert same(ours.save()["values"], theirs.save()["values"])
    assert [each.name for each in plain] == [f"photograph {n}" for n in range(3)]


def test_a_recipe_without_masks_takes_a_folder_of_pictures(tmp_path: Path) -> None:
    for name in ("b.png", "a.JPG", "c.png.png"):
        picture(uniform(1, 3, 20, 24, dtype=torch.float32)).save(tmp_path / name)
    (tmp_path / "read me.txt").write_text("no photograph")
    (tmp_path / "paper.pdf").write_bytes(b"Pillow writes it, and does not read it")
    (tmp_path / "runs" / "of-before").mkdir(parents=True)
    made = loaded(tmp_path, ["image"])
    assert [each.name for each in made] == ["a", "b", "c.png"]
    assert all(each.find("mask") is None for each in made)
    picture(IMAGE).save(tmp_path / "a.png")
    picture(IMAGE).save(tmp_path / "a.png.png")
    names = ["a.JPG", "a.png", "a.png.png", "b.png", "c.png.png"]
    assert [each.name for each in loaded(tmp_path, ["image"])] == names
    picture(IMAGE).save(tmp_path / "runs" / "image.png")
    with pytest.raises(InputError, match="holds pictures and folders with pictures"):
        loaded(tmp_path, ["image"])
    listed = loaded([{"image": uniform(1, 3, 20, 24)}] * 11, ["image"])
    assert [each.name for each in listed] == [f"{n:02}" for n in range(11)]


def break_mask(folder: Path) -> None:
    picture(torch.zeros(1, 1, 24, 32)).save(folder / "photograph 1" / "mask.png")


def break_size(folder: Path) -> None:
    picture(torch.ones(1, 1, 24, 30)).save(folder / "photograph 2" / "target.png")


def lose(folder: Path) -> None:
    (folder / "photograph 0" / "target.png").unlink()


def double_up(folder: Path) -> None:
    picture(torch.ones(1, 1, 24, 32)).save(folder / "photograph 0" / "mask.jpg")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (break_mask, r"photograph 1: mask .*mask.png: is empty: "),
        (break_size, r"photograph 2: target .*is full"),
        (lose, r"photograph 0: has no target: expected a picture 'target' in .*, there are: "
         r"image.png, mask.png. Say what it is called: `--target NAME`"),
        (double_up, "photograph 0: which is its mask, mask.jpg and mask.png. Keep one"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_one_photograph_is_said_with_its_name(
    tmp_path: Path, damage: Callable[[Path], None], said: str
) -> None:
    folder = folder_of(tmp_path / "edits")
    damage(folder)
    with pytest.raises(InputError, match=said):
        loaded(folder, ["image", "mask", "target"])


IMAGE = torch.full((1, 3, 20, 20), 0.5)


@pytest.mark.parametrize(
    ("given_", "wanted", "said"),
    [
        ([], ["image"], "photographs: expected at least one, got an empty list"),
        ([{"image": IMAGE}], ["image", "mask"], "0: has no mask; this recipe needs image and mask"),
        ([{"image": IMAGE, "goal": 1}], ["image"], "0: expected image, .* name, got 'goal'"),
        ([{"image": IMAGE, "name": "a"}] * 2, ["image"], "two are called 'a'"),
        ([{"image": IMAGE, "name": "a/b"}], ["image"], "'a/b' cannot be the name of a folder"),
        ([{"image": IMAGE, "name": "Checkpoint"}], ["image"], "one is called 'Checkpoint'"),
        ([{"image": IMAGE, "name": ".."}], ["image"], "'..' cannot be the name of a folder"),
        (
            [{"image": IMAGE}, {"image": IMAGE, "mask": IMAGE[:, :1].round()}],
            ["image"],
            "1: expected image, target and name, got 'mask'",
        ),
        ("nowhere", ["image"], "nowhere: no such folder; expected a folder of photographs"),
        ("tests/runs/test_collection.py", ["image"], "is a file; expected a folder of photographs"),
        ("invertkit/cli", ["image"], "holds neither pictures nor folders with pictures"),
        (["a.png", "b.png"], ["image"], "expected a folder or a list .*got a list with 'a"),
        ({"image": IMAGE}, ["image"], "expected a folder or a list such as .*, got dict"),
        (IMAGE, ["image"], "expected a folder or a list such as .*, got Tensor"),
        ([{"image": IMAGE, "name": name} for name in "Aa"], ["image"], "'A' and 'a' would share"),
        ([{"image": IMAGE, "name": "a\0b"}], ["image"], "cannot be the name of a folder"),
        ([{"image": IMAGE, "name": "\udce9"}], ["image"], "cannot be the name of a folder"),
        ([{"image": IMAGE, "name": 300 * "n"}], ["image"], "a printable name of at most 200 bytes"),
        ("invertkit/core/images/demo_pictures", ["image", "mask"],
         "sub-folder for every photograph, with files image.png, mask.png"),
    ],
)  # fmt: skip
def test_photographs_that_cannot_be_used_are_refused(
    given_: Any, wanted: Sequence[str], said: str
) -> None:
    given_ = ROOT / given_ if isinstance(given_, str) and "/" in given_ else given_
    with pytest.raises(InputError, match=said):
        loaded(given_, wanted)


def test_names_of_files_belong_to_a_folder() -> None:
    with pytest.raises(InputError, match="target: names a file in every sub-folder"):
        loaded([{"image": IMAGE}], ["image"], {"target": "goal"})


# ---------------------------------------------------------------------- what comes out


def run_each(page: Path, folder: Path, **options: Any) -> list[Result]:
    return package.run_each(page, folder, **{"device": "cpu", "seeds": 2, **options})


def test_each_photograph_gets_what_run_would_give_it(tmp_path: Path) -> None:
    page, edits = write_page(tmp_path), folder_of(tmp_path / "edits")
    results = run_each(page, edits, out=tmp_path / "out")
    assert [result.inputs.name for result in results] == [f"photograph {n}" for n in range(3)]
    for result in results:
        files = {
            kind: edits / result.inputs.name / f"{kind}.png" for kind in ("image", "mask", "target")
        }
        alone = package.run(page, **files, seeds=2, device="cpu", out=tmp_path / "alone")
        assert torch.equal(result.images, alone.images)
        assert same(result.history, alone.history)
        assert result.seeds == alone.seeds == (0, 1)
        for file in (tmp_path / "alone").rglob("*.png"):
            twin = tmp_path / "out" / result.inputs.name / file.relative_to(tmp_path / "alone")
            assert file.read_bytes() == twin.read_bytes()
        shutil.rmtree(tmp_path / "alone")
    page_about_all = (tmp_path / "out" / "index.html").read_text()
    assert page_about_all.count('src="photograph%20') == 3
    with (tmp_path / "out" / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["photograph"], row["seed"]) for row in rows] == [
        (f"photograph {n}", str(seed)) for n in range(3) for seed in (0, 1)
    ]
    assert all(float(row["best_loss"]) > 0 and row["status"] == "finished" for row in rows)


def test_photographs_side_by_side_are_the_same_too(tmp_path: Path) -> None:
    page, edits = write_page(tmp_path), folder_of(tmp_path / "edits")
    batches: list[int] = []

    def watch(report: StepReport) -> None:
        batches.append(len(report.losses))

    together = run_each(page, edits, batch=6, observers=[watch])
    assert set(batches) == {6}
    for ours, theirs in zip(together, run_each(page, edits), strict=True):
        torch.testing.assert_close(ours.images, theirs.images, rtol=0, atol=1e-3)
        torch.testing.assert_close(ours.history, theirs.history, rtol=1e-3, atol=1e-4)
        assert len(ours.frames) == len(theirs.frames)
        assert (ours.frames[-1].float() - theirs.frames[-1].float()).abs().max() <= 1


@pytest.fixture(scope="module", params=[1, 4])
def undisturbed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path, int, list[Result]]:
    """Page, folder of photographs, images in a batch, and what comes of them."""
    folder = tmp_path_factory.mktemp("undisturbed")
    page, edits = write_page(folder), folder_of(folder / "edits")
    return page, edits, request.param, run_each(page, edits, batch=request.param)


@pytest.mark.parametrize("stop", [3, 9, 17, 24, 40])
def test_a_run_over_photographs_goes_on_where_it_was_interrupted(
    undisturbed: tuple[Path, Path, int, list[Result]], tmp_path: Path, stop: int
) -> None:
    page, edits, batch, whole = undisturbed
    counted = iter(range(1, 1000))

    def halt(report: StepReport) -> str | None:
        return STOP if next(counted) == stop else None

    out = tmp_path / "out"
    before = run_each(page, edits, batch=batch, out=out, observers=[halt])
    stopped = len(before) < 3 or any(result.status is Status.STOPPED for result in before)
    assert stopped or next(counted) <= stop
    times = {path: path.stat().st_mtime_ns for path in out.rglob("report.html")}
    after = package.resume_each(out)
    for ours, theirs in zip(after, whole, strict=True):
        assert torch.equal(ours.images, theirs.images)
        assert same(ours.history, theirs.history)
        assert ours.status is Status.FINISHED
        assert (out / ours.inputs.name / "report.html").is_file()
    for result in before:  # what was whole is not written again
        report = out / result.inputs.name / "report.html"
        untouched = report.stat().st_mtime_ns == times[report]
        assert untouched == (result.status is Status.FINISHED and len(result.seeds) == 2)
    with pytest.raises(InputError, match=r"is a run over 3 photographs; .*resume_each"):
        package.resume(out)


def test_a_photograph_that_is_not_whole_is_no_run_of_its_own(tmp_path: Path) -> None:
    page, edits = write_page(tmp_path), folder_of(tmp_path / "edits")
    out = tmp_path / "out"
    steps = iter(range(100))
    run_each(page, edits, out=out, observers=[lambda _: STOP if next(steps) == 9 else None])
    assert (out / "photograph 0" / "report.html").is_file()
    with pytest.raises(InputError, match="photograph 0: holds no checkpoint"):
        package.resume(out / "photograph 0")


@pytest.fixture(scope="module")
def halted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Result]]:
    """The folder of a run that stopped at its ninth step, and what comes of one that does not."""
    folder = tmp_path_factory.mktemp("halted")
    page, edits = write_page(folder), folder_of(folder / "edits", 2)
    steps, out = iter(range(100)), folder / "out"
    run_each(page, edits, out=out, observers=[lambda _: STOP if next(steps) == 9 else None])
    return out, run_each(page, edits)


@pytest.mark.parametrize("broken", range(1, 30, 3))
def test_no_picture_stays_half_made_when_the_disk_fills_while_it_is_written(
    halted: tuple[Path, list[Result]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    broken: int,
) -> None:
    before, whole = halted
    out = Path(shutil.copytree(before, tmp_path / "out"))
    written, replace_ = iter(range(1000)), Path.replace

    def fail(path: Path, target: Path) -> Path:
        if next(written) >= broken:
            raise OSError(28, "No space left on device")
        return replace_(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", fail)
        with contextlib.suppress(WriteError):
            package.resume_each(out)
    for ours, theirs in zip(package.resume_each(out), whole, strict=True):
        assert torch.equal(ours.images, theirs.images)
        for i, seed in enumerate(ours.seeds):
            path = out / ours.inputs.name / "images" / f"seed-{seed}-last.png"
            assert torch.equal(load_image(path)[0], (theirs.last[i] * 255).round() / 255)


OWN = """
from invertkit import InputError, Objective

class Shy(Objective):
    \"\"\"Goes with dark photographs only.\"\"\"

    def __init__(self) -> None:
        pass

    def prepare(self, reference):
        if reference.image.mean() > 0.6 or len(reference.image) > 1:
            raise InputError("too bright for me.")

    def forward(self, view):
        return view.image.square().mean((1, 2, 3))
"""


@pytest.mark.parametrize("batch", [1, 3])
def test_a_photograph_with_which_the_recipe_cannot_go_on_is_left_out(
    tmp_path: Path, batch: int
) -> None:
    (tmp_path / "own.py").write_text(OWN)
    page = write_page(tmp_path, inputs=["image"], objective={"shy": {"type": "shy"}})
    for name, shade in (("a", 0.2), ("b", 0.9), ("c", 0.4)):
        picture(torch.full((1, 3, 20, 20), shade)).save(tmp_path / f"{name}.png")
    out, given_ = tmp_path / "out", [{"image": tmp_path / f"{n}.png", "name": n} for n in "abc"]
    options: dict[str, Any] = {"device": "cpu", "parts": [tmp_path / "own.py"]}
    with pytest.warns(RuntimeWarning, match="b was left out: too bright for me"):
        results = package.run_each(page, given_, batch=batch, out=out, **options)
    assert [result.inputs.name for result in results] == ["a", "c"]
    assert "too bright for me" in (out / "index.html").read_text()
    with pytest.warns(RuntimeWarning, match="b was left out"):
        again = package.resume_each(out)
    for ours, theirs in zip(again, results, strict=True):
        assert torch.equal(ours.images, theirs.images)
    with pytest.raises(InputError, match="too bright for me"):
        package.run(page, image=given_[1]["image"], **options)
    with pytest.raises(InputError, match="b: too bright for me"):
        package.run_each(page, given_[1:2], **options)


def test_the_cut_of_every_photograph_is_looked_at_before_the_first_step(tmp_path: Path) -> None:
    wide, mask = torch.full((1, 3, 20, 60), 0.5), torch.zeros(1, 1, 20, 60)
    mask[..., 5:15, 2:12] = 1
    middle = mask.roll(24, 3)
    page = write_page(tmp_path, inputs=["image", "mask"], fit="crop", objective={
        "match": {"type": "pixel_distance"},
    })  # fmt: skip
    given_ = [{"image": wide, "mask": middle}, {"image": wide, "mask": mask}]
    with pytest.raises(InputError, match=r"1: mask: the recipe looks at the square in the middle"):
        package.run_each(page, given_, device="cpu")
    assert len(package.run_each(page, given_[:1], device="cpu")) == 1


def test_an_objective_that_does_not_ask_for_its_rows_is_told_to(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        OWN.replace(" or len(reference.image) > 1", "")
        .replace(
            "view.image.square().mean((1, 2, 3))",
            "(view.image - self.kept).square().mean((1, 2, 3))",
        )
        .replace(
            "if reference.image.mean() > 0.6:", "self.kept = reference.image\n        if False:"
        )
    )
    page = write_page(
        tmp_path, inputs=["image"], objective={"shy": {"type": "shy"}}, memory=1e-9, fit="stretch"
    )
    given_ = [{"image": uniform(1, 3, 20, 20, seed=i)} for i in range(3)]
    options: dict[str, Any] = {"device": "cpu", "parts": [tmp_path / "own.py"]}
    assert len(package.run_each(page, given_, **options)) == 3
    problem = prepare_job(page, photographs=given_, **options).problem((0,) * 3, (0, 1, 2))
    with pytest.raises(InputError, match=r"objective.shy: .*view.rows\(kept\)"):
        list(Run(problem).steps())


def test_one_photograph_of_a_run_is_a_run_of_its_own(tmp_path: Path) -> None:
    page, edits = write_page(tmp_path), folder_of(tmp_path / "edits")
    (first, *_) = run_each(page, edits, batch=4, out=tmp_path / "out")
    again = package.resume(tmp_path / "out" / "photograph 0")
    assert torch.equal(again.images, first.images)
    with pytest.raises(InputError, match=r"edit one of them, such as .*photograph 0"):
        package.edit(tmp_path / "out", shift=(0.1, 0))


def test_a_photograph_that_is_lost_leaves_the_others(tmp_path: Path) -> None:
    """A loss that overflows for the one photograph that is bright."""
    page = write_page(
        tmp_path,
        inputs=["image"],
        objective={"size": {"type": "norm", "weight": 1e36}},
        variable={"type": "pixels", "start": "image", "noise": 0},
    )
    given_ = [{"image": torch.full((3, 20, 20), shade)} for shade in (0.0, 1.0, 0.0)]
    results = package.run_each(page, given_, batch=3, device="cpu", out=tmp_path / "out")
    statuses = [Status.FINISHED, Status.NON_FINITE, Status.FINISHED]
    assert [result.status for result in results] == statuses
    for result, inputs in zip(results, given_, strict=True):
        alone = package.run(page, **inputs, device="cpu")
        assert alone.status is result.status
        if result.status is Status.FINISHED:
            assert torch.equal(alone.images, result.images)
        assert result.images.isfinite().all()
    with (tmp_path / "out" / "results.csv").open() as file:
        said = [row["status"] for row in csv.DictReader(file)]
    assert said == ["finished", "non_finite", "finished"]


def test_the_command_line_takes_a_folder(tmp_path: Path) -> None:
    page, edits = write_page(tmp_path), folder_of(tmp_path / "edits", target="goal")
    out = tmp_path / "out"
    more = ["--device", "cpu", "--each", edits, "--out", out]
    refused = invertkit("run", page, *more)
    assert "photograph 0: has no target" in refused.sentence
    assert not out.exists()
    answer = invertkit("run", page, *more, "--target", "goal", "--batch", 2, "--judge")
    assert answer.code == 0, answer
    assert answer.out.strip() == str(out / "index.html")
    assert "photograph 2: The run took every step it was given." in answer.err
    assert "3 photographs: photograph 0, photograph 1, photograph 2." in answer.err
    assert "mask iou" in (out / "index.html").read_text()
    assert invertkit("resume", out, "-q").out.strip() == str(out / "index.html")
    assert "batch: expected a number" in invertkit("run", page, "--batch", 0).sentence
    inside = invertkit("run", page, *more[:-1], edits / "out").sentence
    assert "whose folders are photographs" in inside
    assert not (edits / "out").exists()

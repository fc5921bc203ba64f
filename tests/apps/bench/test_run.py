from __future__ import annotations

import json
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from invertkit.apps.bench import run as module
from invertkit.apps.bench.cost import Cost, Counting
from invertkit.apps.bench.machine import Machine, Peak
from invertkit.apps.bench.plan import networks_at_hand
from invertkit.apps.bench.run import bench
from invertkit.apps.bench.steps import Times, time_kinds
from invertkit.apps.bench.sums import KindFacts, RunFacts, summed
from invertkit.apps.bench.table import Bench, BenchRow
from invertkit.core.recording.phase import Phase
from invertkit.core.recording.replay import WORTH
from invertkit.core.view import View
from invertkit.engine.problem import Problem, Term
from invertkit.engine.run import Run
from invertkit.errors import InputError
from invertkit.models.generators.biggan.config import BigGANConfig
from invertkit.objectives.asked_players import CriticScore, MaskBCE
from invertkit.objectives.base import Objective
from invertkit.objectives.reference import PixelDistance
from invertkit.optimizers.population.basin import BasinCMA
from invertkit.optimizers.population.cma_es import CmaEs
from invertkit.optimizers.torch_optim import Adam
from invertkit.runs.prepare import prepare_job
from tests.engine.test_step_kinds import searched, varied
from tests.faces import invertkit, write_page
from tests.helpers import (
    KITNET,
    global_generators_unmoved,
    make_problem,
    tiny_critic,
    tiny_segmenter,
)

SMALL, LARGE = (12, 10), (20, 24)
MACHINE = Machine("cpu", "a box", 2, 1, "2", "tf32", flop_per_second=1e9, bytes_per_second=1e8)


class Clock:
    """Time that passes when somebody says so, or looks at it."""

    def __init__(self, *, tick: float = 0.0) -> None:
        self.now, self.tick = 0.0, tick

    def __call__(self) -> float:
        self.now += self.tick
        return self.now


class Costly(Objective):
    """Takes three seconds of the clock on even steps, one on odd, and five to prepare."""

    def __init__(self, clock: Clock, *, eager: bool = False) -> None:
        self.clock, self.eager = clock, eager

    def prepare(self, reference: View | None) -> None:
        self.clock.now += 5

    def phase(self, step: int) -> Phase:
        return Phase(step % 2, replayable=not self.eager)

    def forward(self, view: View) -> Tensor:
        self.clock.now += 1 if view.step % 2 else 3
        return view.image.square().mean((1, 2, 3))


def measured(
    problem: Problem, clock: Clock, *, until: float = 1e9, compile: Any = "graph"
) -> tuple[RunFacts, list[KindFacts]]:
    times = Times.of(problem)
    time_kinds(problem, times, compile=compile, clock=clock, until=until, at_last=until)
    return summed(times, MACHINE, batch=len(problem.seeds))


# ---------------------------------------------------------------------- timing


def test_a_run_can_stand_before_any_step_and_no_other() -> None:
    run = Run(varied())
    for step in (33, 2, 37):
        run.go_to(step)
        assert next(run.steps()).step == step + 1
    with pytest.raises(InputError, match="There is no step 38; the run has 38"):
        run.go_to(38)


# ---------------------------------------------------------------------- times


def test_a_run_takes_the_sum_of_its_steps_and_setups() -> None:
    clock = Clock()
    stages = [(SMALL, 41), (LARGE, 30)]
    run, kinds = measured(make_problem(Term(Costly(clock), name="it"), stages=stages), clock)
    assert [kind.steps for kind in kinds] == [21, 20, 15, 15]
    assert run.steps == 71
    assert run.seconds_setup == 10
    assert run.seconds_per_run_eager == 10 + 36 * 3 + 35 * 1
    assert run.seconds_per_step_eager == pytest.approx((36 * 3 + 35) / 71)
    # A warm-up, a recording and a check; what is replayed takes no Python, so no time here.
    assert [kind.steps_before_replays for kind in kinds] == [3, 3, 3, 3]
    assert run.seconds_per_run_replayed == 10 + 2 * 3 * (3 + 1)
    assert run.seconds_per_step_replayed == 0
    assert not run.estimated
    assert not run.not_replayed
    assert all(kind.timed_steps_eager and kind.timed_steps_replayed for kind in kinds)


def test_the_heaviest_kind_is_timed_and_the_rest_is_guessed_by_pixels() -> None:
    clock = Clock()
    stages = [(SMALL, 20), (LARGE, 30)]
    problem = make_problem(Term(Costly(clock), name="it"), stages=stages)
    run, kinds = measured(problem, clock, until=0)
    assert run.estimated
    assert [kind.estimated for kind in kinds] == [True, True, False, True]
    ratio = 120 / 480
    assert [k.seconds_per_step_eager for k in kinds] == [3 * ratio, 3 * ratio, 3, 3]
    assert run.seconds_setup == 5 * (1 + ratio)
    assert run.seconds_per_run_eager == 5 * (1 + ratio) + 30 * 3 + 20 * 3 * ratio
    assert kinds[0].flop_per_step == ratio * kinds[2].flop_per_step
    assert run.seconds_per_run_replayed is None
    assert run.not_replayed == "there was no time to see it replayed"


def test_what_players_learn_beforehand_is_in_the_setup_but_not_done() -> None:
    counts: list[int] = []

    class Counted(Clock):
        def __call__(self) -> float:
            return float(sum(counts))

    segmenter = tiny_segmenter(when="before", updates=1000)
    update = segmenter._update
    segmenter._update = lambda: (counts.append(1), update())  # type: ignore[method-assign,assignment,func-returns-value]
    problem = make_problem(Term(MaskBCE(), name="mask"), players={"segmenter": segmenter})
    run, _ = measured(problem, Counted())
    assert run.seconds_setup == 1000
    assert len(counts) < 20


def test_steps_that_are_too_few_or_cannot_be_replayed_say_so() -> None:
    clock = Clock()
    few = make_problem(Term(Costly(clock), name="it"), stages=[(SMALL, 2 * WORTH - 2)])
    run, _ = measured(few, clock)
    assert run.not_replayed == f"fewer than {WORTH} steps are alike"
    assert run.seconds_per_step_replayed is None
    never = make_problem(Term(Costly(clock, eager=True), name="it"), stages=[(SMALL, 40)])
    assert measured(never, clock)[0].not_replayed == "one of its parts cannot be replayed"

    class Reads(Costly):
        def forward(self, view: View) -> Tensor:
            return super().forward(view) * view.image.mean().item()

    reads = make_problem(Term(Reads(clock), name="it"), stages=[(SMALL, 60)])
    run, kinds = measured(reads, clock)
    assert "reads a number back into Python" in run.not_replayed
    assert run.seconds_per_run_replayed is None
    assert run.seconds_per_run_eager == 5 + 30 * 3 + 30
    assert {kind.seconds_before_replays for kind in kinds} == {0}


def test_a_search_is_timed_at_its_draws_its_descents_and_its_judgements() -> None:
    run, kinds = measured(searched(), Clock(tick=1))
    assert all(kind.timed_steps_eager for kind in kinds)
    assert run.seconds_per_run_eager == 19 + 1
    assert not run.estimated
    assert run.not_replayed == "fewer than 12 steps are alike"


def test_descents_of_populations_are_timed_as_they_are_replayed() -> None:
    problem = make_problem(
        Term(PixelDistance(), name="distance"),
        optimizer=BasinCMA(outer=CmaEs(), inner=Adam(), inner_steps=10),
        stages=[((4, 4), 30)],
    )
    run, kinds = measured(problem, Clock(tick=1))
    replayed = [kind.steps for kind in kinds if kind.seconds_per_step_replayed is not None]
    assert replayed == [24]  # of 30, without those that draw and judge
    assert run.seconds_per_run_replayed is not None


def test_timing_leaves_the_global_generators_alone() -> None:
    def problem() -> Problem:
        players = {"critic": tiny_critic(), "segmenter": tiny_segmenter(when="before")}
        terms = Term(CriticScore(), name="critic"), Term(MaskBCE(), name="mask")
        return make_problem(*terms, players=players, stages=[(SMALL, 4)])

    measured(problem(), Clock(tick=1))  # what is imported late may use the generators
    with global_generators_unmoved():
        measured(problem(), Clock(tick=1))


# ---------------------------------------------------------------------- cost and machine


def test_products_are_counted_forward_and_backward() -> None:
    features = torch.ones(1, 3, 8, 8, requires_grad=True)
    weight = torch.ones(4, 3, 3, 3)
    with Counting() as counting:
        out = F.conv2d(features, weight, padding=1)
    assert counting.cost == Cost(2 * 64 * 4 * 27, 4 * (192 + 108 + 256), 1)
    with Counting() as counting:
        out.backward(torch.ones_like(out))
    assert counting.cost.flop == 2 * 64 * 4 * 27
    assert counting.cost.product_bytes == 4 * (256 + 108 + 192)  # the weight takes no gradient
    with Counting() as counting:
        (torch.ones(5, 6) @ torch.ones(6, 7)).T.reshape(7, 5)
    assert counting.cost.flop == 2 * 5 * 6 * 7
    assert counting.cost.product_bytes == 4 * (30 + 42 + 35)
    assert counting.cost.operations == 3, "two made and multiplied; the transpose is a view"
    own, cross, features, lengths = (torch.ones(s) for s in ((6,), (5, 6), (5, 7), (7,)))
    with Counting() as counting:
        torch.ops.invertkit.distances(own, cross, features, lengths)
    assert counting.cost == Cost(2 * 5 * 6 * 7, 4 * (6 + 30 + 35 + 7 + 42), 1)


def test_the_floor_is_the_larger_of_two_times() -> None:
    assert MACHINE.floor(Cost(2e9, 1e8, 7)) == 2
    assert MACHINE.floor(Cost(2e9, 5e8, 7)) == 5


def test_the_peak_of_memory_falls_again() -> None:
    peak = Peak(torch.device("cpu"))
    if peak.read() is None:
        pytest.skip("this system does not tell")
    before = peak.read()
    torch.ones(2**26)
    high = peak.read()
    assert before is not None
    assert high is not None
    assert high - before > 200 * 2**20
    after = Peak(torch.device("cpu")).read()
    assert after is not None
    assert high - after > 200 * 2**20


# ---------------------------------------------------------------------- networks


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[Any]]:
    """No cache but an empty one, and a network whose every use is noticed."""
    tried: list[Any] = []

    def refuse(*given: Any, **named: Any) -> None:
        tried.append(given)
        raise OSError("no network")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    for name in ("getaddrinfo", "gethostbyname", "create_connection"):
        monkeypatch.setattr(socket, name, refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    yield tried
    assert tried == []


MODELS = {
    "robust": {"type": "robust", "name": "resnet18-l2-eps3.0"},
    "torchvision": {"type": "torchvision", "name": "squeezenet1_1"},
    "timm": {"type": "timm", "name": "resnet10t"},
    "link": {"type": "timm", "name": "legacy_seresnet18"},
    "word": "timm:resnet10t",
    "lpips": {"type": "lpips"},
    "gone": {"type": "torchvision", "name": "squeezenet1_1", "weights": "no/such/file.pt"},
    "biggan": {"type": "biggan", "name": "biggan-deep-128"},
}


def test_networks_whose_weights_are_not_at_hand_have_random_ones(
    tmp_path: Path, unreachable: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = BigGANConfig(layers=((True, 16, 16), (True, 16, 8)), attention=1, channel_width=8)
    monkeypatch.setattr(BigGANConfig, "of", lambda resolution: small)
    page = write_page(tmp_path, models={**MODELS, "classifier": str(KITNET)})
    networks = networks_at_hand(prepare_job(page, device="cpu"))
    assert set(networks.random) == set(MODELS)
    assert set(networks.models) == {*MODELS, "classifier"}
    for name, said in networks.described().items():
        assert ("random weights" in said) == (name in MODELS), said


def test_a_recipe_whose_weights_are_not_at_hand_is_timed_and_says_so(
    tmp_path: Path, unreachable: list[Any]
) -> None:
    page = write_page(
        tmp_path,
        models={"classifier": MODELS["torchvision"]},
        objective={"class": {"type": "cross_entropy", "target": 1}},
        stages=[{"size": 40, "steps": 2}],
    )
    result = bench([page], device="cpu", clock=Clock(tick=1), seconds=1e6)
    (row,) = result.rows
    assert row.state == "measured"
    assert row.random is not None
    assert "cannot be fetched" in row.random["classifier"]
    assert row.networks is not None
    assert "random weights" in row.networks["classifier"]
    assert "tiny* " in result.table()
    assert "* With random weights, since its own are not on this machine: tiny (classifier)." in (
        result.table()
    )


def test_a_network_that_cannot_be_built_without_weights_fails_its_row(
    tmp_path: Path, unreachable: list[Any]
) -> None:
    page = write_page(tmp_path, models={"classifier": "no/such/file.ckpt"})
    fine = write_page(tmp_path, "fine")
    answer = invertkit("bench", page, fine, "--out", tmp_path / "b.json", "--device", "cpu")
    assert answer.code == 1
    states = [row["state"] for row in json.loads((tmp_path / "b.json").read_text())["rows"]]
    assert states == ["failed", "measured"]
    assert "tiny: failed: models.classifier: " in answer.out


# ---------------------------------------------------------------------- the whole


@pytest.fixture
def page(tmp_path: Path) -> Path:
    return write_page(
        tmp_path,
        stages=[{"size": 16, "steps": 14}, {"size": 20, "steps": 4}],
        choices={
            "budget": {
                "default": {"cpu": "preview", "cuda": "full"},
                "options": {"full": {}, "preview": {"stages": [{"size": 16, "steps": 2}]}},
            }
        },
    )


def test_a_file_gives_back_what_was_written(page: Path) -> None:
    made = bench([page, "deep-dream"], device="cpu", clock=Clock(tick=1), seconds=40)
    assert Bench.from_json(made.json()) == made
    states = [(row.recipe, row.budget, row.state) for row in made.rows]
    assert states == [
        ("tiny", "full", "not measured"), ("tiny", "preview", "measured"),
        ("deep-dream", "full", "not measured"), ("deep-dream", "preview", "measured"),
    ]  # fmt: skip
    for text in ("", "[]", "{}", '{"schema": "other"}', "no json"):
        with pytest.raises(InputError, match="no result of `invertkit bench`"):
            Bench.from_json(text)


def test_the_command_prints_a_table_and_writes_a_file(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    answer = invertkit("bench", page, "--device", "cpu", "--seconds", 60, "--threads", 1)
    assert answer.code == 0, answer
    assert torch.get_num_threads() == threads
    made = Bench.from_json((tmp_path / "invertkit-bench.json").read_text())
    assert made.table() in answer.out
    assert made.machine.threads == 1
    assert made.seconds_taken > 0
    full, preview = made.rows
    assert full.run is not None
    assert preview.run is not None
    assert (full.run.steps, preview.run.steps) == (18, 2)
    assert full.run.images_per_hour > 0
    assert full.run.share_of_floor >= 0
    assert len(full.kinds) == 2
    assert "On a CPU images go one by one" in answer.out
    assert "1/2 tiny preview: " in answer.err
    again = invertkit("bench", page, "--device", "cpu", "--budget", "preview", "--quiet")
    assert again.code == 0, again
    assert again.err == ""
    made = Bench.from_json((tmp_path / "invertkit-bench.json").read_text())
    assert [row.budget for row in made.rows] == ["preview"]


def test_the_time_is_over_when_it_is(page: Path, tmp_path: Path) -> None:
    pages = [page, write_page(tmp_path, "second"), write_page(tmp_path, "third")]
    clock = Clock(tick=1)
    made = bench(pages, device="cpu", seconds=30, clock=clock)
    states = [row.state for row in made.rows]
    assert "measured" in states
    assert states.count("not measured") >= 2
    assert clock.now < 60
    late = [row for row in made.rows if row.state == "not measured"]
    assert {row.reason for row in late} == {"there was no time left; give more `--seconds`."}
    assert "not measured: there was no time left" in made.table()


def test_ctrl_c_keeps_what_was_measured(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []

    def interrupted(job: Any) -> Any:
        calls.append(job)
        if len(calls) == 2:
            signal.raise_signal(signal.SIGINT)
        return networks_at_hand(job)

    monkeypatch.setattr(module, "networks_at_hand", interrupted)
    out = tmp_path / "b.json"
    answer = invertkit("bench", page, "--device", "cpu", "--out", out)
    assert answer.code == 130
    made = Bench.from_json(out.read_text())
    assert made.interrupted
    assert [row.state for row in made.rows] == ["not measured", "measured"]
    assert made.rows[0].reason == "it was interrupted."
    assert made.table() in answer.out


def test_rows_of_a_gpu_have_batches() -> None:
    machine = Machine("cuda", "a card", 8, 4, "2", "bf16", 1e14, 1e12)
    rows = [
        BenchRow("magic", "full", 4),
        BenchRow("magic", "full", 16, "failed", "OutOfMemoryError: …"),
    ]
    table = Bench("1", machine, "graph", 120, 3, interrupted=False, rows=rows).table()
    assert "batch" in table
    assert "a card (cuda), 4 of 8 threads, torch 2, bf16: 100,000 GFLOP/s, 1,000 GB/s" in table
    assert "magic full × 16: failed: OutOfMemoryError: …" in table
    assert "On a CPU" not in table


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["no-such"], "Unknown recipe 'no-such'."),
        (["--budget", "prevew"], "there are full, preview, standard. Did you mean 'preview'?"),
        (["magic-swift", "--budget", "full"], "no recipe here has 'full'; there are none."),
        (["--seconds", "0"], "seconds: expected a number above 0, got 0."),
        (["--seconds", "nan"], "seconds: expected a number above 0, got nan."),
        (["--threads", "0"], "threads: expected at least 1, got 0."),
        (["--batch", "0"], "batch: expected at least 1 image, got 0."),
        (["--compile", "off"], "compile: expected graph, inductor, got 'off'."),
        (["--precision", "half"], "precision: expected float32, tf32, bf16, got 'half'."),
        (["--device", "tpu"], "device: expected auto, cpu, cuda or cuda:N, got 'tpu'."),
        (["--out", "."], "is a folder; name a file"),
        (["--out", "no/b.json"], "cannot be written (there is no folder"),
        (["--out", "mine.json"], "is there already and no result of `invertkit bench`"),
        (["--out", "mine.png"], "is there already and no result of `invertkit bench`"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence_before_anything_is_measured(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "measure_machine", lambda *given: pytest.fail("it began"))
    (tmp_path / "mine.json").write_text("{}")
    (tmp_path / "mine.png").write_bytes(b"\x89PNG\xff")
    assert said in invertkit("bench", *arguments).sentence
    assert (tmp_path / "mine.json").read_text() == "{}"

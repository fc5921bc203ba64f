"""Fewer bits in the networks: near the float32 numbers, float32 outside, flags as before."""

import re
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from invertkit.core.precision import PRECISIONS, Precision, products
from invertkit.core.randomness import Randomness
from invertkit.core.scene import LOGITS
from invertkit.core.view import View
from invertkit.engine.problem import Problem, Term
from invertkit.engine.run import Run
from invertkit.errors import InputError
from invertkit.objectives.asked_players import CriticScore, MaskBCE
from invertkit.objectives.outputs import CrossEntropy
from invertkit.objectives.statistics import FeatureStatistics
from invertkit.runs.prepare import prepare_job
from tests.faces import invertkit
from tests.helpers import (
    make_problem,
    make_scene,
    tiny_classifier,
    tiny_critic,
    tiny_segmenter,
    uniform,
)

SIZE = (16, 20)


def look(precision: Precision) -> dict[str, Tensor]:
    scene = replace(
        make_scene(SIZE, dtype=torch.float32),
        models={"classifier": tiny_classifier(torch.float32)},
        needs={"classifier": ("layer1", LOGITS)},
        precision=precision,
    )
    view = View(uniform(2, 3, *SIZE, dtype=torch.float32), scene, Randomness((0, 1)))
    return {"layer1": view.tap("layer1"), LOGITS: view.logits()}


def test_what_terms_read_of_a_network_is_float32_and_near_whatever_it_computes_with() -> None:
    wanted = look("float32")
    assert all(map(torch.equal, look("tf32").values(), wanted.values())), "nothing on a CPU"
    rounded = look("bf16")
    for name, value in wanted.items():
        assert rounded[name].dtype == torch.float32
        assert not torch.equal(rounded[name], value)
        torch.testing.assert_close(rounded[name], value, rtol=0.05, atol=0.05)


def whole(precision: Precision) -> Problem:
    return make_problem(
        Term(CrossEntropy(), name="class"),
        Term(FeatureStatistics(layers=("layer1",)), name="statistics"),
        Term(CriticScore(), name="critic"),
        Term(MaskBCE(), name="mask"),
        players={"critic": tiny_critic(), "segmenter": tiny_segmenter(updates=40)},
        stages=[(SIZE, 24)],
        scene=lambda size: replace(make_scene(size, dtype=torch.float32), precision=precision),
    )


def test_a_run_in_bf16_is_near_the_run_in_float32_at_first_and_its_state_is_float32() -> None:
    first: dict[str, dict[str, Tensor]] = {}
    for precision in PRECISIONS:
        run = Run(whole(precision), compile="graph")
        reports = list(run.steps())
        first[precision] = reports[0].values
        assert reports[-1].losses.isfinite().all()
        assert run.replays.replayed
        assert run.params["pixels"].dtype == torch.float32
        player: Any = run.problem.players["critic"]
        assert {v.dtype for v in player.save()["net"].values()} == {torch.float32}
    for name, value in first["float32"].items():
        assert torch.equal(first["tf32"][name], value)
        assert not torch.equal(first["bf16"][name], value), f"{name} is computed in bf16"
        torch.testing.assert_close(first["bf16"][name], value, rtol=0.1, atol=0.05)


def test_flags_of_products_are_as_before_afterwards_even_after_a_fault() -> None:
    def flags() -> tuple[bool, ...]:
        backends = torch.backends
        return (
            backends.cudnn.allow_tf32,
            backends.cuda.matmul.allow_tf32,
            backends.cudnn.benchmark,
        )

    before = flags()
    for precision in PRECISIONS:
        inside: list[tuple[bool, ...]] = []

        def fault(precision: Precision = precision, inside: Any = inside) -> None:
            with products(precision):
                inside.append(flags())
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fault()
        assert inside == [(precision != "float32", precision != "float32", True)]
        assert flags() == before


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        (
            {"compile": "grahp"},
            "compile: expected auto, off, graph, inductor, got 'grahp'. Did you mean 'graph'?",
        ),
        (
            {"precision": "bf61"},
            "precision: expected float32, tf32, bf16, got 'bf61'. Did you mean 'bf16'?",
        ),
    ],
)
def test_an_unknown_way_is_one_sentence(option: dict[str, str], sentence: str) -> None:
    with pytest.raises(InputError, match=re.escape(sentence)):
        prepare_job("magic", device="cpu", **option)  # type: ignore[arg-type]
    ((name, value),) = option.items()
    assert invertkit("run", "magic", f"--{name}", value).sentence == sentence

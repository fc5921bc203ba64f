"""Options that are made of the fields of records."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field, fields, make_dataclass, replace
from typing import Annotated, Any, Literal

import pytest
import typer
from typer.testing import CliRunner

from invertkit.cli import training
from invertkit.cli.flags import with_flags
from invertkit.core.flags import NO_FLAG, Flag, NoFlag
from invertkit.core.ranges import Count
from invertkit.training.classifier.plan import TrainingPlan
from invertkit.training.classifier.sources import Sources
from invertkit.training.generator.plan import GeneratorOrders, GeneratorPlan
from invertkit.training.loop.options import Machines, Telling
from invertkit.training.robustness.accuracy_plan import AccuracyPlan
from invertkit.training.robustness.attack import Attack

RECORDS: list[Any] = [
    AccuracyPlan, Attack, GeneratorOrders, GeneratorPlan, Machines, Sources, Telling, TrainingPlan,
]  # fmt: skip


@dataclass(frozen=True)
class Inner:
    """A part.

    Args:
        steps: How many steps. At the most.
        random: Begin anywhere.
    """

    steps: Annotated[int, Flag("--inner-steps")] = 2
    random: Annotated[
        bool, Flag("--random/--fixed", otherwise=lambda given: given["steps_at_once"] > 1)
    ] = False


@dataclass(frozen=True)
class Plan:
    """A plan.

    Args:
        name: Of the thing
            in `full`.
        inner: A part.
        steps_at_once: Together.
        kind: One of two.
        sizes: Repeatable.
        fast: Hurry.
        safe: Look twice.
        points: Where.
        hidden: Nobody's business.
    """

    name: str
    inner: Annotated[Inner, Flag(panel="Inside")] = field(default_factory=Inner)
    steps_at_once: Count = 1
    kind: Literal["a", "b"] = "a"
    sizes: Annotated[tuple[float, ...], Flag("--size")] = (1.0,)
    fast: bool = False
    safe: bool = True
    points: Annotated[
        tuple[int, ...],
        Flag(
            typed=str,
            default="none",
            reads=lambda text: {} if text == "none" else {"points": tuple(map(int, text.split()))},
        ),
    ] = ()
    hidden: Annotated[object, NO_FLAG] = None


def ask(*arguments: str) -> tuple[Plan | None, str]:
    """The plan that a command gets, and what is printed."""
    app, given = typer.Typer(), []

    @app.command()
    @with_flags(panels=("Inside",))
    def command(plan: Plan, out: Annotated[int, typer.Option(help="Where to.")] = 3) -> None:
        given.append(plan)
        assert out == 3

    answer = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    assert not isinstance(answer.exception, AssertionError)
    return (given[0] if given else None), answer.output


def test_what_is_not_typed_is_left_to_the_record() -> None:
    assert ask("--name", "x")[0] == Plan("x")


@pytest.mark.parametrize(
    ("typed", "change"),
    [
        (["--inner-steps", "7"], {"inner": Inner(7)}),
        (["--random"], {"inner": Inner(random=True)}),
        (["--steps-at-once", "2"], {"steps_at_once": 2, "inner": Inner(random=True)}),
        (["--steps-at-once", "2", "--fixed"], {"steps_at_once": 2}),
        (["--kind", "c"], {"kind": "c"}),  # the record itself is to complain
        (["--size", "2", "--size", "3"], {"sizes": (2.0, 3.0)}),
        (["--fast", "--no-safe"], {"fast": True, "safe": False}),
        (["--points", "1 2"], {"points": (1, 2)}),
    ],
)
def test_what_is_typed_reaches_its_field(typed: list[str], change: dict[str, Any]) -> None:
    assert ask("--name", "x", *typed)[0] == replace(Plan("x"), **change)


def test_the_help_is_the_docstring_and_the_ranges() -> None:
    plan, text = ask("--help")
    assert plan is None
    for line in ("Of the thing in full.", "Together (at least 1).", "How many steps.", "Where to."):
        assert line in text
    for absent in ("At the most", "hidden", "--no-fast", "--inner "):
        assert absent not in text
    assert text.index("Options") < text.index("--points") < text.index("Inside")
    assert "Missing option '--name'" in ask()[1]


def test_two_fields_of_one_name_are_refused() -> None:
    other = make_dataclass("Other", [("fast", bool, False)])

    def command(plan: Plan, more: other) -> None:  # type: ignore[valid-type]
        """Never made."""

    command.__annotations__ = {"plan": Plan, "more": other}
    with pytest.raises(TypeError, match="two records have the field fast; rename one"):
        with_flags()(command)


@pytest.mark.parametrize("record", RECORDS)
def test_every_field_that_can_be_typed_says_what_it_is(record: Any) -> None:
    from invertkit.cli.flags import docstring_entries

    entries = docstring_entries(record.__doc__)
    assert set(entries) == {field.name for field in fields(record)}
    assert all(len(text) > 3 for text in entries.values())


def test_a_new_field_of_a_plan_is_a_new_flag() -> None:
    app = typer.Typer()
    longer = make_dataclass("Longer", [("new_field", int, 3)], bases=(GeneratorPlan,), frozen=True)
    given = []

    def command(plan: object) -> None:
        given.append(plan)

    command.__annotations__ = {"plan": longer}
    app.command()(with_flags()(command))
    assert CliRunner().invoke(app, ["--new-field", "5"]).exit_code == 0
    assert given == [longer(new_field=5)]


def test_plans_are_known_without_torch() -> None:
    code = "import sys, invertkit.cli; print([m for m in ('torch', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    assert NoFlag is type(NO_FLAG)
    assert training.app.registered_commands

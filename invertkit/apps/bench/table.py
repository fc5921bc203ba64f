"""What `bench` found: a line for each case, as a table for people and as JSON for programs."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal, final

from rich import box
from rich.console import Console
from rich.table import Table

from invertkit.apps.bench.machine import Machine
from invertkit.apps.bench.sums import KindFacts, RunFacts
from invertkit.core.files import whole_file
from invertkit.errors import InputError

SCHEMA: Final = "invertkit-bench/1"
State = Literal["measured", "not measured", "failed"]
_NONE: Final = "–"


@final
@dataclass(frozen=True)
class BenchRow:
    """A recipe with a budget and a batch.

    Args:
        recipe: Its name.
        budget: Empty where the recipe has but one.
        batch: Images side by side.
        state: What became of it.
        reason: Why it was not measured or failed.
        networks: What each is.
        random: Networks that have random weights, and why theirs are not at hand.
        run: A run in numbers, if it was measured.
        kinds: Its kinds of steps.
        bytes_peak_memory: The most while it ran, with what replays keep.
    """

    recipe: str
    budget: str
    batch: int
    state: State = "not measured"
    reason: str = ""
    networks: Mapping[str, str] | None = None
    random: Mapping[str, str] | None = None
    run: RunFacts | None = None
    kinds: Sequence[KindFacts] = ()
    bytes_peak_memory: int | None = None

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> BenchRow:
        """What `asdict` made of one."""
        run = facts["run"]
        kinds = [
            KindFacts(**{**kind, "terms": tuple(kind["terms"]), "phases": tuple(kind["phases"])})
            for kind in facts["kinds"]
        ]
        return cls(**{**facts, "run": run and RunFacts(**run), "kinds": tuple(kinds)})


@final
@dataclass(frozen=True)
class Bench:
    """All that was found.

    Args:
        invertkit: Version.
        machine: On which.
        compile: How steps were replayed.
        seconds_allowed: For all of it.
        seconds_taken: By all of it.
        interrupted: Whether somebody stopped it.
        rows: In the order of the recipes.
    """

    invertkit: str
    machine: Machine
    compile: str
    seconds_allowed: float
    seconds_taken: float
    interrupted: bool
    rows: Sequence[BenchRow]

    def json(self) -> str:
        """As text; units are in the names."""
        return json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Bench:
        """What `json` wrote.

        Raises:
            InputError: It did not.
        """
        facts = _facts_of(text)
        if facts is None:
            raise InputError(f"This is no result of `invertkit bench` of schema {SCHEMA}.")
        machine, rows = Machine(**facts["machine"]), tuple(map(BenchRow.from_facts, facts["rows"]))
        return cls(**{**facts, "machine": machine, "rows": rows})

    # ------------------------------------------------------------------ for people

    def table(self) -> str:
        """As text, with what its marks mean beneath."""
        gpu = self.machine.device != "cpu"
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
        table.add_column("recipe", no_wrap=True)
        table.add_column("budget", no_wrap=True)
        heads = (
            *(["batch"] if gpu else []),
            "steps", "s/step\neager", "s/step\nreplayed", "ratio", "run", "images\nan hour",
            "of the\nfloor", "MiB",
        )  # fmt: skip
        for head in heads:
            table.add_column(head, justify="right", no_wrap=True)
        for row in self.rows:
            table.add_row(*_line(row, gpu=gpu))
        out = io.StringIO()
        Console(file=out, width=200, color_system=None).print(table)
        lines = [line.rstrip() for line in out.getvalue().split("\n") if line.strip()]
        return "\n".join([self._title(), "", *lines, "", *self._notes()])

    def _title(self) -> str:
        machine = self.machine
        where = machine.name if machine.device == "cpu" else f"{machine.name} ({machine.device})"
        return (
            f"{where}, {machine.threads} of {machine.cores} threads, torch {machine.torch}, "
            f"{machine.precision}: {machine.flop_per_second / 1e9:,.0f} GFLOP/s, "
            f"{machine.bytes_per_second / 1e9:,.0f} GB/s"
        )

    def _notes(self) -> list[str]:
        notes = []
        runs = [(row, row.run) for row in self.rows if row.run is not None]
        if any(run.estimated for _, run in runs):
            notes.append(
                "~ Some kinds of steps were not reached; theirs are guessed from others by pixels. "
                "More `--seconds` measure more."
            )
        drawn = dict.fromkeys(
            f"{row.recipe} ({', '.join(row.random)})" for row, _ in runs if row.random
        )
        if drawn:
            notes.append(
                f"* With random weights, since its own are not on this machine: {', '.join(drawn)}."
            )
        if self.machine.device == "cpu" and runs:
            notes.append(
                "On a CPU images go one by one: at every batch there are as many an hour, in as "
                "much memory."
            )
        lacking = [(run.not_replayed, row) for row, run in runs if run.not_replayed]
        notes += [f"Not replayed: {names}: {why}." for why, names in _by_reason(lacking)]
        left = [(f"{r.state}: {r.reason}", r) for r in self.rows if r.run is None]
        notes += [f"{names}: {why}" for why, names in _by_reason(left)]
        return notes


def _by_reason(rows: Sequence[tuple[str, BenchRow]]) -> list[tuple[str, str]]:
    """Each reason once, with the names of what it holds for."""
    names: dict[str, list[str]] = {}
    for reason, row in rows:
        names.setdefault(reason, []).append(_name(row))
    return [(reason, ", ".join(some)) for reason, some in names.items()]


def _name(row: BenchRow) -> str:
    several = f"× {row.batch}" if row.batch > 1 else ""
    return " ".join(filter(None, (row.recipe, row.budget, several)))


def _line(row: BenchRow, *, gpu: bool) -> list[str]:
    start = [row.recipe + ("*" if row.random else ""), row.budget or _NONE]
    start += [str(row.batch)] if gpu else []
    run = row.run
    if run is None:
        return [*start, row.state]
    replayed, about = run.seconds_per_step_replayed, "~" if run.estimated else ""
    whole = run.seconds_per_run_replayed
    memory = row.bytes_peak_memory
    return [
        *start,
        str(run.steps),
        about + _seconds(run.seconds_per_step_eager),
        _NONE if replayed is None else about + _seconds(replayed),
        _NONE if replayed is None else f"{run.seconds_per_step_eager / max(replayed, 1e-9):.2f}",
        about + duration(run.seconds_per_run_eager if whole is None else whole),
        about + f"{run.images_per_hour:.3g}",
        f"{100 * run.share_of_floor:.0f} %",
        _NONE if memory is None else f"{memory / 2**20:,.0f}",
    ]


def _seconds(value: float) -> str:
    return f"{value:.2f}" if value >= 1 else f"{value:.3f}" if value >= 0.1 else f"{value:.4f}"


def duration(seconds: float) -> str:
    """As minutes:seconds, or hours:minutes:seconds.

    Example:
        >>> duration(61), duration(36000)
        ('1:01', '10:00:00')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


# ---------------------------------------------------------------------- files


def check_place(path: Path) -> None:
    """Whether a result may be written there: to a new file, or over an earlier result.

    Raises:
        InputError: It may not.
    """
    folder = path.resolve().parent
    if not folder.is_dir():
        raise InputError(f"{path}: cannot be written (there is no folder {folder}).")
    if path.is_dir():
        raise InputError(f"{path}: is a folder; name a file, such as {path / 'bench.json'}.")
    if not path.exists():
        if not os.access(folder, os.W_OK):
            raise InputError(f"{path}: cannot be written (no permission).")
        return
    try:
        earlier = _facts_of(path.read_text(encoding="utf-8")) is not None
    except (OSError, ValueError):
        earlier = False
    if not earlier:
        raise InputError(
            f"{path}: is there already and no result of `invertkit bench`; nothing is overwritten. "
            "Choose another `--out`."
        )
    if not os.access(path, os.W_OK):
        raise InputError(f"{path}: cannot be written (no permission).")


def write_bench(bench: Bench, path: Path) -> None:
    """Write it as JSON, whole or not at all.

    Raises:
        InputError: It cannot be written.
    """
    try:
        with whole_file(path) as partial:
            partial.write_text(bench.json(), encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error}).") from None


def _facts_of(text: str) -> dict[str, Any] | None:
    """The facts of a result; None if the text is none."""
    try:
        facts = json.loads(text)
    except ValueError:
        return None
    if not isinstance(facts, dict) or facts.pop("schema", None) != SCHEMA:
        return None
    return facts

"""The same run over several classifiers, or over the values of any key: MAGIC's Fig. 5."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, final

from torch import Tensor, nn

from invertkit.apps.ablation.cells import (
    Cell,
    holds_pictures,
    read_cell,
    rows_of,
    was_begun,
    write_cell,
)
from invertkit.apps.ablation.measures import Measures
from invertkit.apps.ablation.plan import (
    CLASSIFIER,
    Case,
    Variant,
    cases_in,
    changes,
    check_classifier,
    settings_of,
    variants_of,
)
from invertkit.apps.ablation.table import Ablation, AblationRow, State
from invertkit.apps.labels import opened_classifier, slug
from invertkit.apps.tables import finite
from invertkit.core.files import new_folder
from invertkit.core.log import log
from invertkit.core.modes import ordinary_modes
from invertkit.engine.problem import Status
from invertkit.errors import InputError, InvertkitError
from invertkit.runs import checkpoint
from invertkit.runs.carry_out import carry_out
from invertkit.runs.job import Job
from invertkit.runs.keeping import Keeping
from invertkit.runs.prepare import prepare_job
from invertkit.runs.settings import override_texts, settings_and_inputs, takes_settings
from invertkit.runs.watching import watching

_SHOWN: Final = 128
"""Side at which photographs are shown on the sheet, or that of the last stage if larger."""


@takes_settings
@ordinary_modes()
def ablate(
    recipe: str | Path = "magic",
    *,
    over: Mapping[str, Any] | None = None,
    variants: Mapping[str, Sequence[str] | Mapping[str, Any]] | None = None,
    data: str | Path | None = None,
    only: Sequence[str] = (),
    judge: bool = True,
    out: str | Path | None = None,
    progress: bool | None = None,
    checkpoint_every: float = 20.0,
    **given: Any,
) -> Ablation:
    """Carry out a recipe once for every photograph, target and variant, and compare.

    With a folder, every run keeps one of its own in `out/runs`, and the sheet and tables are
    written anew after each. What was interrupted or failed is gone on with when the same call is
    made again; what is finished is not done again, and a changed setting is an error, not a mixed
    table. Without a folder nothing is written.

    Args:
        recipe: Name of a recipe, or the path of a page.
        over: Values by key of the page, a list or a mapping of labels to values. The key
            `classifier` stands for `models.classifier`; its values are words of the catalogue,
            paths of weights or modules. Several keys give every combination.
        variants: Overrides by name, beside the recipe as it is: `{"no patches":
            {"objective.patches": None}}`, or `KEY=VALUE` texts.
        data: Folder of photographs, instead of inputs: see `cases_in`.
        only: Of `data`: names of photographs, or `NAME:VERSION`.
        judge: Measure intersection over union with the target by a segmenter that is trained once
            for every photograph and size (15 s at 128×128); it only looks.
        out: Folder to make, or that of an earlier call to go on with.
        progress: Show a progress bar; by default on a terminal or in a notebook.
        checkpoint_every: Seconds between checkpoints.
        **given: Inputs of one photograph, by the recipe's names; and the settings below, by name,
            of every run and variant.

    Returns:
        Pictures and numbers. A run that fails, or meets a loss that is not finite, is told of in
        its row and does not stop the others.

    Raises:
        InputError: A photograph cannot be used, or `out` was made with other settings.
        RecipeError: A key does not exist, or every variant is wrong.

    Source: MAGIC, section 4 and Fig. 5: IMAGINE over the classifier's ε; here any recipe and key.
    """
    planned = variants_of(over or {}, variants or {})
    folder = None if out is None else Path(out)
    goes_on = folder is not None and _continues(folder)
    cells = _planned(recipe, planned, given, data=data, only=only, folder=folder)
    for sentence in cells[0].job.sentences:
        log.info(sentence)
    study = _Study(cells, _facts(cells[0].job, given), folder=folder, judge=judge)
    # The folder comes last: a call that cannot be carried out leaves none behind.
    study.look()
    if folder is not None and not goes_on:
        new_folder(folder)
    study.run(progress=progress, checkpoint_every=checkpoint_every)
    return study.result()


def _planned(
    recipe: str | Path,
    variants: Sequence[Variant],
    given: Mapping[str, Any],
    *,
    data: str | Path | None,
    only: Sequence[str],
    folder: Path | None,
) -> list[Cell]:
    """Every run, case by case and in each variant by variant."""
    _, named = settings_and_inputs(given)
    inputs = {name: value for name, value in named.items() if value is not None}
    settings = {name: value for name, value in given.items() if name not in named}
    if data is not None and inputs:
        raise InputError("data: give either a folder of photographs or a single one, not both.")
    if only and data is None:
        raise InputError("only: chooses among the photographs of `data`; give that folder.")
    settings["overrides"] = list(override_texts(settings.get("overrides", ())))
    base = prepare_job(recipe, **settings, **inputs)
    if any(CLASSIFIER in variant.models for variant in variants):
        check_classifier(base)
    name = _name_of(inputs, base)
    cases = (
        [Case(name, name, inputs)] if data is None else cases_in(Path(data), base.page.specs, only)
    )
    return [
        _cell(case, variant, _prepared(case, recipe, data, variant, settings), folder)
        for case in cases
        for variant in variants
    ]


def _facts(job: Job, given: Mapping[str, Any]) -> dict[str, Any]:
    """What is run, for the tables."""
    return {
        "title": job.page.name,
        "recipe": job.page.name,
        "chosen": job.page.chosen,
        "overrides": list(override_texts(given.get("overrides", ()))),
        "seeds": list(job.seeds),
        "device": str(job.device),
    }


def _prepared(
    case: Case,
    recipe: str | Path,
    data: str | Path | None,
    variant: Variant,
    settings: Mapping[str, Any],
) -> Job:
    """The job of one photograph; a complaint about one of several says which it is."""
    overrides = [*settings["overrides"], *variant.sets]
    try:
        return prepare_job(recipe, **{**settings, "overrides": overrides}, **case.inputs)
    except InputError as error:
        if data is None:
            raise
        raise type(error)(f"{Path(data) / case.photograph}: {error}") from error


def _name_of(inputs: Mapping[str, Any], base: Job) -> str:
    """What a single photograph is called."""
    if not inputs:
        return "demonstration" if base.page.specs else base.page.name
    image = inputs.get(base.photographs[0].lead)
    return Path(image).stem if isinstance(image, str | Path) else "photograph"


def _continues(out: Path) -> bool:
    """Whether the folder is that of an earlier call.

    Raises:
        InputError: It holds something else.
    """
    if not out.is_dir() or not any(out.iterdir()):
        return False
    if not (out / "runs").is_dir():
        raise InputError(
            f"{out}: exists, is not empty and holds no ablation, and nothing is overwritten. "
            "Choose another `--out`."
        )
    return True


def _cell(case: Case, variant: Variant, job: Job, out: Path | None) -> Cell:
    given = {
        name: model
        for name, model in {**job.settings.models, **variant.models}.items()
        if isinstance(model, nn.Module)
    }
    folder = None if out is None else out / "runs" / slug(case.name) / slug(variant.name)
    # As they will be read again, so that comparing them tells no tuple from a list.
    settings = json.loads(json.dumps(settings_of(job, given), default=str))
    return Cell(case, variant, job, settings, folder)


@final
class _Study:
    """All runs of an ablation: which are done, doing the others, and what came out.

    Args:
        cells: Case by case, in each variant by variant.
        facts: What is run.
        folder: Of the ablation, or None.
        judge: Whether to train segmenters that judge.
    """

    def __init__(
        self,
        cells: Sequence[Cell],
        facts: Mapping[str, Any],
        *,
        folder: Path | None,
        judge: bool,
    ) -> None:
        self._cells, self._facts, self._folder = cells, facts, folder
        self._variants = {cell.variant.name: dict(cell.variant.values) for cell in cells}
        self._measures = Measures(None if folder is None else folder / "judges", judge=judge)
        self._rows: dict[int, list[AblationRow]] = {}
        self._sources: dict[str, Mapping[str, Tensor]] = {}
        self._models: dict[str, Mapping[str, Any]] = {}
        places = [cell.folder for cell in cells]
        if self._folder is not None and len(set(places)) < len(places):
            raise InputError(
                "variants: the names of two differ only in signs that a folder's name cannot "
                "have; give them labels of your own."
            )

    def look(self) -> None:
        """Which runs are done already.

        Raises:
            InputError: One was made with other settings.
        """
        for number, cell in enumerate(self._cells):
            record = None if cell.folder is None else read_cell(cell.folder)
            if record is None or cell.folder is None:
                continue
            # What holds neither pictures nor a checkpoint may be made anew with other settings.
            different = list(changes(record.get("settings"), cell.settings))
            if different and holds_pictures(cell.folder):
                more = f" and {len(different) - 2} more" if len(different) > 2 else ""
                raise InputError(
                    f"{cell.folder}: was made with other settings ({'; '.join(different[:2])}"
                    f"{more}). Choose another `--out`, or remove that folder to make it anew."
                )
            if not different and record.get("state") in ("finished", "non_finite"):
                rows = rows_of(cell, record)
                if rows is not None:
                    self._rows[number] = rows

    def run(self, *, progress: bool | None, checkpoint_every: float) -> None:
        """Do what is not done, one after the other; nothing more after an interruption."""
        waiting = [i for i in range(len(self._cells)) if i not in self._rows]
        if len(waiting) < len(self._cells):
            log.info(f"{len(self._cells) - len(waiting)} of {len(self._cells)} runs are done.")
        self._try_variants(waiting)
        for number in waiting:
            cell = self._cells[number]
            try:
                rows = self._carried_out(cell, progress=progress, every=checkpoint_every)
            except KeyboardInterrupt:
                rows = self._without_pictures(cell, "interrupted", "")
            except (InvertkitError, RuntimeError, MemoryError) as error:
                sentence = str(error).strip().split("\n")[0] or type(error).__name__
                rows = self._without_pictures(cell, "failed", sentence)
                self._note(cell, rows)
            self._rows[number] = rows
            self._tell(number)
            # After each run, not at the end: an ablation may take days, and be looked at meanwhile.
            if self._folder is not None:
                self.result().write(self._folder)
            if any(row.state == "interrupted" for row in rows):
                return
        if not waiting and self._folder is not None:
            self.result().write(self._folder)

    def result(self) -> Ablation:
        """What there is so far."""
        rows = [
            row
            for number, cell in enumerate(self._cells)
            for row in self._rows.get(number) or self._without_pictures(cell, "missing", "")
        ]
        sources = {cell.case.name: self._source(cell) for cell in self._cells}
        return Ablation(tuple(rows), self._variants, sources, self._facts)

    def _tell(self, number: int) -> None:
        cell, (row, *_) = self._cells[number], self._rows[number]
        numbers = ", ".join(
            f"{word} {row.numbers[key]:.{digits}f}"
            for key, word, digits in (
                ("mask_iou", "IoU", 3), ("patch_distance", "patches", 4), ("seconds", "seconds", 1)
            )
            if key in row.numbers
        )  # fmt: skip
        state = "" if row.state == "finished" else f" {row.state.replace('_', '-')} {row.error}"
        done = sum(1 for i in range(len(self._cells)) if i in self._rows)
        log.info(
            f"{done} of {len(self._cells)}: {cell.case.name}, {cell.variant.name}:{state} {numbers}"
        )

    # ------------------------------------------------------------------ running

    def _try_variants(self, waiting: Sequence[int]) -> None:
        """Build each waiting variant once.

        Raises:
            InvertkitError: The first one's fault, if all are wrong: then it is the user's mistake.
        """
        faults: dict[str, InvertkitError | None] = {}
        for number in waiting:
            cell = self._cells[number]
            if cell.variant.name not in faults:
                try:
                    self._job(cell)
                    faults[cell.variant.name] = None
                except InvertkitError as error:
                    faults[cell.variant.name] = error
        # One good variant is reason enough to go on: the others are told of in their rows.
        first = next(iter(faults.values()), None)
        if first is not None and None not in faults.values() and not self._rows:
            if self._folder is not None and not any(self._folder.iterdir()):
                self._folder.rmdir()
            raise first

    def _job(self, cell: Cell) -> Job:
        """The cell's job with its models, which are opened once for every variant."""
        job = cell.job
        key = json.dumps([job.raw.get("models"), sorted(cell.variant.models)], default=str)
        key += "".join(f" {id(model)}" for model in cell.variant.models.values())
        if key not in self._models:
            opened = {name: opened_classifier(word) for name, word in cell.variant.models.items()}
            whole = job.using(models={**job.settings.models, **opened})
            self._models[key] = whole.problem().models
        return job.using(models=self._models[key])

    def _carried_out(self, cell: Cell, *, progress: bool | None, every: float) -> list[AblationRow]:
        job = self._job(cell)
        state = None
        if cell.folder is not None:
            if was_begun(cell.folder):
                state = checkpoint.load(cell.folder)
            write_cell(cell, {"state": "begun"})
        with watching(job, wanted=progress) as observers:
            keeping = Keeping(folder=cell.folder, checkpoint_every=every, state=state)
            result = carry_out(job, observers=observers, keeping=keeping)
        rows = self._measures.rows(cell, result)
        if result.status is not Status.INTERRUPTED:
            self._note(cell, rows)
        return rows

    def _note(self, cell: Cell, rows: Sequence[AblationRow]) -> None:
        """Leave in the run's folder what came out."""
        if cell.folder is None:
            return
        facts = [{"seed": r.seed, "numbers": r.numbers, "losses": r.losses} for r in rows]
        write_cell(cell, {"state": rows[0].state, "error": rows[0].error, "rows": finite(facts)})

    def _without_pictures(self, cell: Cell, state: State, error: str) -> list[AblationRow]:
        return [
            AblationRow(cell.case.name, cell.variant.name, seed, state, error=error)
            for seed in cell.job.seeds
        ]

    def _source(self, cell: Cell) -> Mapping[str, Tensor]:
        """The inputs with the cut of the last stage."""
        name = cell.case.name
        if name not in self._sources:
            job = cell.job
            sides = [stage.size for _, stage in job.page.in_order() if stage.size]
            size = job.photographs[0].size(max([_SHOWN, *sides[-1:]]), job.page.fit)
            fitted = job.photographs[0].at(size, job.page.fit)
            self._sources[name] = {
                label: picture.expand(3, -1, -1) for label, picture in fitted.shown()
            }
        return self._sources[name]

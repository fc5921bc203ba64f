"""The pictures and numbers of an ablation: rows, means, the labelled sheet, and their files."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, Final, Literal, TypeVar, final

from PIL import Image
from torch import Tensor

from invertkit.apps.tables import (
    columns_of_text,
    csv_of,
    finite,
    mean_and_error,
    mean_and_interval,
    with_error,
)
from invertkit.core.files import whole_file
from invertkit.core.images.sheet import Panel, beside, draw_sheet
from invertkit.core.version import __version__
from invertkit.errors import InputError

T = TypeVar("T")

State = Literal["missing", "finished", "non_finite", "failed", "interrupted"]
"""How far a run got."""

_FORMS: Final = {
    "mask_iou": ".3f", "ceiling": ".3f", "patch_distance": ".4f", "loss": ".4g", "seconds": ".1f",
}  # fmt: skip
_TITLES: Final = {
    "mask_iou": "mask IoU", "ceiling": "ceiling", "patch_distance": "patch distance",
    "loss": "loss", "seconds": "seconds",
}  # fmt: skip
# Losses of different terms are no common measure, and a ceiling is the photograph's.
_COMPARED: Final = ("mask_iou", "patch_distance")


@final
@dataclass(frozen=True)
class AblationRow:
    """One image of one run.

    Args:
        edit: Which photograph and target.
        variant: Which variant of the recipe.
        seed: Of the image.
        state: How far the run got.
        numbers: `mask_iou` with its `ceiling`, `patch_distance`, `loss`, `seconds`, `steps`; those
            that the recipe's inputs allow.
        losses: Value of each term, unweighted, at the image shown.
        picture: The result, if there is one.
        error: Why there is none, or why the run ended early.
    """

    edit: str
    variant: str
    seed: int
    state: State
    numbers: Mapping[str, float] = field(default_factory=dict)
    losses: Mapping[str, float] = field(default_factory=dict)
    picture: Image.Image | None = None
    error: str = ""


@final
@dataclass(frozen=True)
class Ablation:
    """All rows of an ablation, with what they were made from.

    Args:
        rows: Edit by edit, in each variant by variant, in each seed by seed.
        variants: Values of every varied key, by variant.
        sources: Pictures to show before the results, by edit and then by heading.
        facts: What was run.
    """

    rows: tuple[AblationRow, ...]
    variants: Mapping[str, Mapping[str, str]]
    sources: Mapping[str, Mapping[str, Tensor]]
    facts: Mapping[str, Any]

    @property
    def failed(self) -> list[AblationRow]:
        """Rows of runs that failed or met a loss that is not finite."""
        return [row for row in self.rows if row.state in ("failed", "non_finite")]

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended it; the same call goes on."""
        return any(row.state == "interrupted" for row in self.rows)

    def of(self, edit: str, variant: str, seed: int | None = None) -> AblationRow:
        """One row.

        Raises:
            KeyError: There is none.
        """
        for row in self.rows:
            if (row.edit, row.variant) == (edit, variant) and seed in (None, row.seed):
                return row
        raise KeyError((edit, variant, seed))

    def means(self) -> list[dict[str, Any]]:
        """By variant: how many images, how many failed, and (mean, standard error) of each number.

        Seeds of an edit are averaged first; the error is over edits, NaN for fewer than two.
        `mask_iou_lowest` is that of a single image.
        """
        return [self._means_of(name) for name in self.variants]

    def _means_of(self, variant: str) -> dict[str, Any]:
        rows = [row for row in self.rows if row.variant == variant]
        done = [row for row in rows if row.state == "finished"]
        bad = sum(row.state in ("failed", "non_finite") for row in rows)
        facts: dict[str, Any] = {"variant": variant, "images": len(done), "failed": bad}
        for name in _FORMS:
            values = self._by_edit(variant, name)
            if values:
                facts[name] = mean_and_error([fmean(each) for each in values.values()])
                if name == "mask_iou":
                    facts["mask_iou_lowest"] = min(min(each) for each in values.values())
        return facts

    def _by_edit(self, variant: str, name: str) -> dict[str, list[float]]:
        """A number of the variant's finished images, by edit, in each a value a seed."""
        values: dict[str, list[float]] = {}
        for row in self.rows:
            known = math.isfinite(row.numbers.get(name, math.nan))
            if row.variant == variant and row.state == "finished" and known:
                values.setdefault(row.edit, []).append(row.numbers[name])
        return values

    def differences(self) -> list[dict[str, Any]]:
        """How far each variant is from the first, edit by edit.

        Of `mask_iou` and `patch_distance` it is the mean over the edits that both have finished,
        seeds averaged first, with the ends of its 95 % interval (paired t; NaN for a single edit).

        Returns:
            By variant: `variant`, `from`, `edits`, and (mean, low, high) of each number. Empty for
            a single variant.
        """
        base, *others = self.variants or [""]
        lines = []
        for variant in others:
            facts: dict[str, Any] = {"variant": variant, "from": base, "edits": 0}
            for name in _COMPARED:
                mine, theirs = self._by_edit(variant, name), self._by_edit(base, name)
                both = [edit for edit in theirs if edit in mine]
                if both:
                    facts["edits"] = len(both)
                    facts[name] = mean_and_interval(
                        [fmean(mine[edit]) - fmean(theirs[edit]) for edit in both]
                    )
            lines.append(facts)
        return lines

    def table(self) -> str:
        """The means as text, a line for each variant, and beneath them the differences."""
        means = self.means()
        shown = [name for name in _FORMS if any(name in mean for mean in means)]
        lines = [["variant", "images", *(_TITLES[name] for name in shown)]]
        if "mask_iou" in shown:
            lines[0].insert(3, "lowest")
        for mean in means:
            line = [mean["variant"], str(mean["images"])]
            for name in shown:
                line.append(with_error(*mean[name], form=_FORMS[name]) if name in mean else "-")
                if name == "mask_iou":
                    line.append(f"{mean['mask_iou_lowest']:.3f}" if name in mean else "-")
            lines.append([*line, f"{mean['failed']} failed"] if mean["failed"] else line)
        return "\n".join([columns_of_text(lines), *self._table_of_differences()])

    def _table_of_differences(self) -> list[str]:
        """The lines beneath the means, if there is anything to compare."""
        lines = [
            [
                facts["variant"],
                str(facts["edits"]),
                *(
                    _interval(*facts[name], form=_FORMS[name])
                    for name in _COMPARED
                    if name in facts
                ),
            ]
            for facts in self.differences()
            if any(name in facts for name in _COMPARED)
        ]
        if not lines:
            return []
        base = next(iter(self.variants))
        named = [name for name in _COMPARED if self._by_edit(base, name)]
        heading = [f"less {base}", "edits", *(_TITLES[name] for name in named)]
        return ["", columns_of_text([heading, *lines])]

    def sheet(self, *, height: int = 128) -> Image.Image:
        """Edits in rows, sources and variants in columns, the numbers beneath each result."""
        rows, headings = [], list(dict.fromkeys(n for s in self.sources.values() for n in s))
        seeds = list(dict.fromkeys(row.seed for row in self.rows))
        several = f", {len(seeds)} seeds" if len(seeds) > 1 else ""
        for edit, pictures in self.sources.items():
            for seed in seeds:
                line = f"{edit}, seed {seed}" if several else edit
                shown = [
                    Panel(pictures.get(name), (line,) if not i else ())
                    for i, name in enumerate(headings)
                ]
                results = [self.of(edit, variant, seed) for variant in self.variants]
                label = "" if headings else line
                rows.append((label, [*shown, *map(_panel, results)]))
        blocks = [
            draw_sheet(
                [row for _, row in part],
                columns=[*headings, *self.variants],
                labels=[label for label, _ in part],
                title=f"{self.facts.get('title', '')}{several}",
                height=height,
            )
            for part in _parts(rows, columns=len(headings) + len(self.variants))
        ]
        return beside(blocks)

    def write(self, folder: Path) -> None:
        """Write the sheet, the tables and `ablation.json`, each whole or not.

        Raises:
            InputError: The folder cannot be written.
        """
        buffer = io.BytesIO()
        self.sheet().save(buffer, format="PNG")
        means = [finite(mean) for mean in self.means()]
        differences = self.differences()
        page = {
            **self.facts,
            "invertkit": __version__,
            "variants": self.variants,
            "means": means,
            "differences": [finite(line) for line in differences],
            "rows": [self._facts_of(row) for row in self.rows],
        }
        text = json.dumps(page, indent=2, ensure_ascii=False)
        try:
            _replace(folder / "sheet.png", buffer.getvalue())
            _replace(folder / "table.csv", csv_of([self._line(row) for row in self.rows]).encode())
            _replace(folder / "means.csv", csv_of(means).encode())
            if differences:
                _replace(folder / "differences.csv", csv_of(differences).encode())
            _replace(folder / "ablation.json", text.encode())
        except OSError as error:
            raise InputError(
                f"{folder}: cannot be written ({error.strerror or error}). Make room and give the "
                "same command again: finished runs are kept."
            ) from None

    def _line(self, row: AblationRow) -> dict[str, Any]:
        losses = {f"loss:{name}": value for name, value in row.losses.items()}
        start = {"edit": row.edit, "variant": row.variant, **self.variants[row.variant]}
        middle = {"seed": row.seed, "state": row.state, **row.numbers, **losses}
        return {**start, **middle, "error": row.error}

    def _facts_of(self, row: AblationRow) -> dict[str, Any]:
        numbers, losses = finite(row.numbers), finite(row.losses)
        facts = {key: getattr(row, key) for key in ("edit", "variant", "seed", "state", "error")}
        return {**facts, "values": self.variants[row.variant], **numbers, "losses": losses}


def _parts(rows: Sequence[T], *, columns: int) -> list[Sequence[T]]:
    """Many rows in parts that stand side by side, so that the sheet is no ribbon."""
    count = max(1, math.ceil((0.78 * len(rows) / columns) ** 0.5 - 0.3))
    length = max(1, -(-len(rows) // count))
    return [rows[i : i + length] for i in range(0, max(1, len(rows)), length)]


def _panel(row: AblationRow) -> Panel:
    numbers, lines = row.numbers, []
    if "mask_iou" in numbers:
        lines.append(f"IoU {numbers['mask_iou']:.2f} of {numbers['ceiling']:.2f}")
    if "patch_distance" in numbers:
        lines.append(f"patches {numbers['patch_distance']:.3f}")
    if not lines and "loss" in numbers:
        lines.append(f"loss {numbers['loss']:.4g}")
    if row.state != "finished" and row.picture is not None:
        lines.append(row.state.replace("_", "-"))
    inside = {"missing": "not yet run"}.get(row.state, f"{row.state}: {row.error}".strip(": "))
    return Panel(row.picture, lines, inside)


def _interval(mean: float, low: float, high: float, *, form: str) -> str:
    """The mean with its sign, and its interval where there is one."""
    ends = f" ({low:+{form}} to {high:+{form}})" if math.isfinite(low) else ""
    return f"{mean:+{form}}{ends}"


def _replace(path: Path, content: bytes) -> None:
    with whole_file(path) as partial:
        partial.write_bytes(content)

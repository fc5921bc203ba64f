"""What a network that took no part sees in the pictures of an ablation, variant by variant.

    invertkit ablate magic --budget standard --data DATA --over classifier=… --out STUDY
    python benchmarks/judged_ablation.py STUDY DATA

The class of a photograph is the one that the judge (`judge.py`) finds likeliest in it, so it is
nobody's whom the pictures were made to please. Of every variant: its mean probability, in how many
pictures it is the likeliest, and how far the variant is from the first, edit by edit, with a 95 %
interval (paired t). Beneath stands what the judge says of the photographs themselves.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from judge import probabilities
from torch import Tensor

from invertkit.apps.labels import slug
from invertkit.apps.tables import columns_of_text, mean_and_interval
from invertkit.core.images.folder import file_of, files_in
from invertkit.errors import InputError


def picture_of(study: Path, row: Mapping[str, Any]) -> Path:
    """The result of a finished run.

    Raises:
        InputError: It is gone.
    """
    folder = study / "runs" / slug(row["edit"]) / slug(row["variant"])
    kind = json.loads((folder / "cell.json").read_text())["settings"]["recipe"].get(
        "result", "best"
    )
    path = folder / "images" / f"seed-{row['seed']}-{kind}.png"
    if not path.is_file():
        raise InputError(f"{path}: is gone; make the ablation again.")
    return path


def photograph_of(data: Path, edit: str) -> Path:
    """The photograph of an edit, `NAME` or `NAME VERSION`.

    Raises:
        InputError: The folder has none.
    """
    folder = data / edit.split(" ")[0]
    found = file_of(files_in(folder), "image")
    if found is None:
        raise InputError(f"{folder}: holds no image.")
    return found


def judged(study: Path, data: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Tensor]]:
    """Probability of the photograph's class and whether it is the likeliest.

    Returns:
        By variant and edit, averaged over seeds, a tensor of both; and by edit, of the photograph.

    Raises:
        InputError: The ablation has no finished picture, or one is gone.
    """
    facts = json.loads((study / "ablation.json").read_text())
    rows = [row for row in facts["rows"] if row["state"] == "finished"]
    if not rows:
        raise InputError(f"{study}: no run has finished.")
    sources = {row["edit"]: photograph_of(data, row["edit"]) for row in rows}
    of_sources = {edit: probabilities([path])[0] for edit, path in sources.items()}
    seen: dict[str, dict[str, list[Tensor]]] = {name: {} for name in facts["variants"]}
    for row in rows:
        wanted = of_sources[row["edit"]].argmax()
        shares = probabilities([picture_of(study, row)])[0]
        pair = torch.stack([shares[wanted], (shares.argmax() == wanted).float()])
        seen[row["variant"]].setdefault(row["edit"], []).append(pair)
    by_variant = {
        name: {edit: torch.stack(pairs).mean(0) for edit, pairs in edits.items()}
        for name, edits in seen.items()
    }
    certain = {edit: torch.stack([p.max(), torch.ones(())]) for edit, p in of_sources.items()}
    return by_variant, certain


def table(seen: Mapping[str, Mapping[str, Tensor]], certain: Mapping[str, Tensor]) -> str:
    """A line for each variant, and one for the photographs."""
    base = next(iter(seen))
    lines = [["variant", "edits", "class", "top-1", f"class less {base}"]]
    for name, edits in {**seen, "the photographs": certain}.items():
        if not edits:
            continue
        values = torch.stack(list(edits.values()))
        both = [edit for edit in seen[base] if edit in edits]
        mean, low, high = mean_and_interval(
            [(edits[edit][0] - seen[base][edit][0]).item() for edit in both]
        )
        difference = "" if name == base else f"{mean:+.3f} ({low:+.3f} to {high:+.3f})"
        lines.append([name, str(len(edits)), f"{values[:, 0].mean():.3f}",
                      f"{values[:, 1].sum():g} of {len(edits)}", difference])  # fmt: skip
    return columns_of_text(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("study", type=Path, help="what `invertkit ablate --out` made")
    parser.add_argument("data", type=Path, help="the folder of photographs that it was given")
    options = parser.parse_args()
    print(table(*judged(options.study, options.data)))


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        raise SystemExit(str(error)) from None

"""`invertkit models`: which classifiers there are, and their weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from invertkit.cli.common import say
from invertkit.errors import InputError, RecipeError

if TYPE_CHECKING:
    from invertkit.models.classifiers.catalogue import Entry

app = typer.Typer(
    help="Classifiers and their weights; without a command, the catalogue.",
    invoke_without_command=True,
)

Json = Annotated[bool, typer.Option("--json", help="For machines.")]
Norm = Annotated[str, typer.Option(help="l2, linf or none.")]
Architecture = Annotated[str, typer.Option(help="Part of its name, such as resnet50.")]
Dataset = Annotated[str, typer.Option(help="imagenet or cifar10.")]
Source = Annotated[str, typer.Option(help="salman2020, robustness or invertkit.")]
Eps = Annotated[float | None, typer.Option(help="Exactly this radius.")]
MaxEps = Annotated[float | None, typer.Option(help="At most this radius.")]
Search = Annotated[str, typer.Option(help="Words that occur in an entry.")]
Weights = Annotated[Path | None, typer.Option(help="Its file, or the folder that holds it.")]


@app.callback()
def models(
    context: typer.Context,
    norm: Norm = "",
    architecture: Architecture = "",
    dataset: Dataset = "",
    source: Source = "",
    eps: Eps = None,
    max_eps: MaxEps = None,
    search: Search = "",
    as_json: Json = False,
) -> None:
    """List the classifiers that have a name of their own, and how to name others."""
    if context.invoked_subcommand is not None:
        return
    _check_choices(norm=norm, dataset=dataset, source=source)
    from invertkit.models.classifiers.catalogue import select
    from invertkit.models.classifiers.words import SOURCES

    entries = select(
        norm=norm, architecture=architecture, dataset=dataset, source=source, eps=eps,
        max_eps=max_eps, words=search.split(),
    )  # fmt: skip
    if as_json:
        typer.echo(json.dumps([entry.facts() for entry in entries], indent=1, ensure_ascii=False))
        return
    if not entries:
        raise InputError("No classifier of the catalogue fits these filters; leave one out.")
    header = ("name", "trained against", "accuracy", "data", "from")
    rows = [header, *(_row(entry) for entry in entries)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
    for row in rows:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        typer.echo(line.rstrip())
    say(
        "\nAlso: "
        + "; ".join(f"{each.form}, {each.summary}" for each in SOURCES if not each.listed)
        + ".\n`invertkit models show NAME` tells all of one; in a recipe: `classifier: NAME`."
    )


def _row(entry: Entry) -> tuple[str, ...]:
    accuracy = "–" if entry.accuracy is None else f"{entry.accuracy:.2f} %"
    return entry.name, entry.attack, accuracy, entry.dataset, entry.source


def _check_choices(**given: str) -> None:
    from invertkit.models.classifiers.catalogue import ENTRIES

    for name, value in given.items():
        known = sorted({str(entry.facts()[name]) for entry in ENTRIES.values()})
        if value and value not in known:
            raise InputError(f"--{name} {value}: expected one of {', '.join(known)}.")


def _entry(name: str) -> Entry:
    from invertkit.models.classifiers.catalogue import find, near
    from invertkit.models.classifiers.words import is_file_name, source_of

    entry = find(name)
    if entry is None:
        source = source_of(name)
        if source is not None and not source.listed and not is_file_name(name):
            raise RecipeError(
                f"{name}: has no line in the catalogue; it is fetched when a recipe or a command "
                "first uses it, by the library that it names."
            )
        names = near(name, 3)
        hint = f" Did you mean {' or '.join(map(repr, names))}?" if names else ""
        raise RecipeError(
            f"{name}: no such name in the catalogue.{hint} `invertkit models` lists it."
        )
    return entry


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="As `invertkit models` lists it.")],
    as_json: Json = False,
) -> None:
    """Explain one classifier: source, licence, paper, size, accuracy, checksum, normalisation."""
    entry = _entry(name)
    if as_json:
        typer.echo(json.dumps(entry.facts(), indent=1, ensure_ascii=False))
        return
    place = entry.url or "carried by the package"
    if entry.repository:
        place = f"hub {entry.repository}, {entry.file}"
    checksum = entry.sha256 or "not published"
    lines = {
        "name": entry.name,
        "architecture": entry.architecture,
        "trained on": f"{entry.dataset}, images of {entry.side}×{entry.side}",
        "trained against": entry.attack,
        "clean accuracy": "not published" if entry.accuracy is None else f"{entry.accuracy} %",
        "normalisation": f"mean {_three(entry.mean)}, std {_three(entry.std)}",
        "file": place,
        "download": "not published" if entry.size is None else f"{entry.size:,} bytes",
        "sha256": checksum + ("…" if 0 < len(entry.sha256) < 64 else ""),
        "licence": entry.licence,
        "paper": entry.paper,
        "note": entry.note,
        "in a recipe": f"classifier: {entry.name}",
    }
    _tell({key: value for key, value in lines.items() if value})


@app.command()
def classes(
    name: Annotated[str, typer.Argument(help="Any word for a classifier, or a file.")] = "embedded",
    search: Annotated[str, typer.Option(help="Only those with these words, in any case.")] = "",
    as_json: Json = False,
) -> None:
    """List the classes that a classifier knows, with their numbers."""
    from invertkit.models.classifiers.class_names import plain_name
    from invertkit.models.classifiers.open import open_classifier

    known = open_classifier(name).classes
    if not known:
        raise InputError(f"{name}: does not say which classes it knows; they have numbers only.")
    words = plain_name(search).split()
    found = {i: each for i, each in enumerate(known) if all(w in plain_name(each) for w in words)}
    if not found:
        raise InputError(f"{name}: none of its {len(known)} classes holds {search!r}.")
    if as_json:
        typer.echo(json.dumps(found, indent=1, ensure_ascii=False))
        return
    for place, each in found.items():
        typer.echo(f"{place:>{len(str(len(known) - 1))}}  {each}")


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="As `invertkit models` lists it.")],
    to: Annotated[
        Path | None, typer.Option(help="Keep the file in this folder instead of the cache.")
    ] = None,
) -> None:
    """Download the weights of a classifier, or say where they are already."""
    from invertkit.models.loading import hub

    entry = _entry(name)
    path = hub.weights_of(entry) if to is None else hub.fetch(entry, folder=to)
    typer.echo(str(path))


@app.command()
def verify(
    what: Annotated[str, typer.Argument(help="A name of the catalogue, or a file.")],
    weights: Weights = None,
    architecture: Annotated[
        str, typer.Option(help="What network a file is, such as torchvision:resnet34.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Check a weights file: integrity, layout, every entry, normaliser, checksum."""
    from invertkit.models.classifiers import verify as verifying

    checked = verifying.verify(what, weights=weights, architecture=architecture)
    if as_json:
        typer.echo(json.dumps(checked.facts(), indent=1, ensure_ascii=False))
        return
    repeated = f", {checked.duplicates} of them repeated" if checked.duplicates else ""
    lines: dict[str, Any] = {
        "file": checked.path,
        "size": f"{checked.size:,} bytes",
        "sha256": f"{checked.sha256} ({checked.published})",
        "container": checked.container,
        "layout": checked.layout,
        "entries": f"{checked.entries}{repeated}; every one is accounted for",
        "network": checked.architecture,
        "classes": checked.classes,
        "parameters": f"{checked.parameters:,}",
        "normaliser": checked.normaliser,
        "beside": ", ".join(checked.beside),
        "note": " ".join(checked.notes),
    }
    _tell({key: value for key, value in lines.items() if value})


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="A PyTorch checkpoint.")],
    destination: Annotated[
        Path | None, typer.Argument(help="The .safetensors file to write; else beside the source.")
    ] = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Run the code in the file; only if you trust it.")
    ] = False,
    architecture: Annotated[
        str, typer.Option(help="What network it is, such as timm:resnet34, if names do not tell.")
    ] = "",
    half: Annotated[bool, typer.Option("--half", help="Keep float16, where numbers fit.")] = False,
) -> None:
    """Turn a checkpoint into safetensors that load by themselves; nothing is overwritten."""
    from invertkit.models.classifiers.convert import convert_weights

    target = destination or source.with_suffix(".safetensors")
    facts = convert_weights(source, target, trust=trust, architecture=architecture, half=half)
    typer.echo(f"{target}: {facts['tensors']} tensors.")
    if "architecture" in facts:
        say(f"It is {facts['architecture']} and loads by itself: `classifier: {target}`.")


def _tell(lines: dict[str, Any]) -> None:
    width = max(map(len, lines))
    for key, value in lines.items():
        typer.echo(f"{key:{width}}  {value}")


def _three(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:g}" for value in values)

"""ζ against z: how many steps each needs for equal loss, on photographs that trained neither.

    python benchmarks/zeta.py TEST --zeta zeta.safetensors --out zeta
    python benchmarks/zeta.py --out zeta --table

Suzuki et al. 2018, supplement B.3, Fig. 16, on the embedded generator or another: every photograph
is projected on z and on ζ by Adam as in the recipe `project-manifold`, at each rate asked for; the
loss is `1 - cos` of the discriminator's features plus 0.2 of the mean squared pixels on [-1, 1].
The paper claims that ζ needs less than two thirds of z's steps.

A rate is chosen for each space on one half of the photographs, by the mean loss over all steps, and
the spaces are compared on the other half, and the other way round; so every photograph is judged at
rates that it did not choose. Intervals are 95 % of 2,000 bootstrap samples of photographs.

TEST is a folder or zip of `CLASS/NAME.png` with classes of the generator. What is done is kept in
`--out`. One process on one thread.
"""

from __future__ import annotations

import argparse
import csv
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from invertkit.core.images.resize import resize_image
from invertkit.core.images.save import save_png
from invertkit.models.generators.encoder import Encoder
from invertkit.models.generators.zeta import ZetaSpace
from invertkit.models.generators.zeta_file import zeta as open_zeta
from invertkit.training.projection.command import photographs_for
from invertkit.training.projection.subject import Subject, open_encoder, open_subject

PIXELS = 0.2
LEVELS = (5, 10, 25, 50, 100, 150, 200)
SAMPLES = 2000
Curves = dict[tuple[str, float], np.ndarray]
"""Losses `(photographs, steps + 1)` by space and rate."""


@dataclass
class Task:
    """Photographs of known classes to be projected into a generator."""

    subject: Subject
    encoder: Encoder
    space: ZetaSpace
    photographs: Tensor
    labels: Tensor
    start: str


def main() -> None:
    """Project what is left, and print the table."""
    options = _options()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "losses.csv"
    if not options.table:
        task = _task(options)
        done = read(path)
        for space, rates in (("z", options.z_rates), ("zeta", options.zeta_rates)):
            for rate in rates:
                if (space, rate) not in done:
                    _project_all(task, space, rate, options, path)
    curves = read(path)
    if curves:
        text = table(curves)
        (options.out / "table.md").write_text(text + "\n", encoding="utf-8")
        print(text)


def _task(options: argparse.Namespace) -> Task:
    subject = open_subject(options.generator, options.discriminator)
    data = photographs_for(options.test, subject)
    classes = data.labels.unique()
    rows: list[int] = []
    # One of each class in turn, so that any number of photographs has them evenly.
    for turn in range(int(torch.bincount(data.labels).max())):
        for label in classes:
            of_class = (data.labels == label).nonzero()[:, 0]
            if turn < len(of_class) and len(rows) < options.images:
                rows.append(int(of_class[turn]))
    return Task(
        subject,
        open_encoder(options.encoder, generator=options.generator),
        open_zeta(weights=options.zeta),
        data.images[rows].float() / 255,
        data.labels[rows],
        options.start,
    )


def _project_all(
    task: Task, space: str, rate: float, options: argparse.Namespace, path: Path
) -> None:
    """Every photograph on one space at one rate; its losses to the file."""
    began, curves, made = time.monotonic(), [], []
    for first in range(0, len(task.labels), options.batch):
        rows = slice(first, first + options.batch)
        losses, pictures = project(task, space, rate, rows, steps=options.steps)
        curves.append(losses)
        made.append(pictures)
    save_png(_sheet(task.photographs, torch.cat(made)), options.out / f"{space}-{rate:g}.png")
    new = not path.is_file()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(["space", "rate", "photograph", "losses"])
        for number, losses in enumerate(np.concatenate(curves)):
            writer.writerow([space, rate, number, " ".join(f"{loss:.6f}" for loss in losses)])
    print(f"{space} at {rate:g}: {time.monotonic() - began:.0f} s", flush=True)


def project(
    task: Task, space: str, rate: float, rows: slice, *, steps: int
) -> tuple[np.ndarray, Tensor]:
    """Losses `(b, steps + 1)` of some photographs, and the last pictures.

    Photographs of a batch are separate problems: Adam moves every number by itself.
    """
    subject, photographs, labels = task.subject, task.photographs[rows], task.labels[rows]
    with torch.no_grad():
        goal = subject.directions(photographs)
        point = begun(task, photographs, labels, rows)
        if space == "zeta":
            point = task.space.expand(point)
    point = point.clone().requires_grad_()
    optimizer, losses = torch.optim.Adam([point], rate), []
    for step in range(steps + 1):
        latent = task.space.collapse(point) if space == "zeta" else point
        pictures = subject.pictures(latent, labels)
        loss = subject.distance(pictures, photographs, goal, pixels=PIXELS)
        losses.append(loss.detach().numpy())
        if step < steps:
            optimizer.zero_grad()
            loss.sum().backward()
            optimizer.step()
    return np.stack(losses, 1), pictures.detach()


def begun(task: Task, photographs: Tensor, labels: Tensor, rows: slice) -> Tensor:
    """z where a projection begins: what the encoder says, or a draw that the photograph's number
    decides."""
    subject = task.subject
    if task.start == "random":
        drawn = torch.Generator().manual_seed(0)
        every = torch.randn(len(task.labels), subject.numbers, generator=drawn)
        return every[rows]
    look = resize_image(photographs, (task.encoder.size, task.encoder.size))
    return task.encoder.encode(look, **{subject.embedding: subject.table[labels]})[subject.latent]


def _sheet(photographs: Tensor, pictures: Tensor, most: int = 12) -> Tensor:
    """Photographs above, pictures below."""
    rows = [torch.cat(list(each[:most]), 2) for each in (photographs, pictures.clamp(0, 1))]
    return torch.cat(rows, 1)


def read(path: Path) -> Curves:
    """What is done, by space and rate."""
    rows: dict[tuple[str, float], list[list[float]]] = {}
    if path.is_file():
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                key = row["space"], float(row["rate"])
                rows.setdefault(key, []).append([float(n) for n in row["losses"].split()])
    return {key: np.array(curves) for key, curves in rows.items()}


# ------------------------------------------------------------------ the table


def compared(curves: Curves) -> tuple[np.ndarray, np.ndarray, str]:
    """Losses of every photograph on z and on ζ, each at the rate that the other half chose."""
    count = min(len(each) for each in curves.values())
    halves = [np.arange(count) % 2 == side for side in (0, 1)]
    chosen, words = {}, []
    for space in ("z", "zeta"):
        rates = sorted(rate for name, rate in curves if name == space)
        whole = np.empty_like(curves[space, rates[0]][:count])
        picks = []
        for judged, choosing in (halves, halves[::-1]):
            best = min(rates, key=lambda rate: curves[space, rate][:count][choosing].mean())
            whole[judged] = curves[space, best][:count][judged]
            picks.append(f"{best:g}")
        chosen[space] = whole
        words.append(f"{space} at {' and '.join(dict.fromkeys(picks))}")
    return chosen["z"], chosen["zeta"], ", ".join(words)


def steps_to(curve: np.ndarray, level: float) -> float:
    """Steps until a curve first is at a level, between steps by a line; infinite if it never is."""
    below = np.flatnonzero(curve <= level)
    if not len(below):
        return float("inf")
    at = int(below[0])
    if at == 0:
        return 0.0
    above, under = curve[at - 1], curve[at]
    return at - 1 + float((above - level) / max(above - under, 1e-12))


def table(curves: Curves) -> str:
    """Steps for equal loss, with intervals, in Markdown."""
    on_z, on_zeta, rates = compared(curves)
    count, steps = on_z.shape[0], on_z.shape[1] - 1
    draw = np.random.default_rng(0)
    picks = draw.integers(0, count, (SAMPLES, count))
    lines = [
        f"{count} photographs, {steps} steps; {rates}; means, with intervals of 95 %.",
        "",
        "| steps on z | loss | steps on ζ for that loss | share |",
        "|---|---|---|---|",
    ]
    for level in (each for each in LEVELS if each <= steps):
        needed = steps_to(on_zeta.mean(0), float(on_z.mean(0)[level]))
        shares = [
            steps_to(on_zeta[pick].mean(0), float(on_z[pick].mean(0)[level])) / level
            for pick in picks
        ]
        low, high = np.percentile(shares, [2.5, 97.5], method="nearest")
        lines.append(
            f"| {level} | {on_z.mean(0)[level]:.4f} | {_told(needed, steps)} | "
            f"{_share(needed / level)} ({_share(low)} to {_share(high)}) |"
        )
    lines += ["", "| after steps | z | ζ | ζ - z |", "|---|---|---|---|"]
    for level in (0, *(each for each in LEVELS if each <= steps)):
        gap = on_zeta[:, level] - on_z[:, level]
        low, high = np.percentile(gap[picks].mean(1), [2.5, 97.5])
        lines.append(
            f"| {level} | {on_z[:, level].mean():.4f} | {on_zeta[:, level].mean():.4f} | "
            f"{gap.mean():+.4f} ({low:+.4f} to {high:+.4f}) |"
        )
    lines += [
        "",
        "| space | rate | mean loss after 10 | 50 | the last step |",
        "|---|---|---|---|---|",
    ]
    for (space, rate), each in sorted(curves.items()):
        told = " | ".join(
            f"{each[:, at].mean():.4f}" for at in (min(10, steps), min(50, steps), -1)
        )
        lines.append(f"| {space} | {rate:g} | {told} |")
    return "\n".join(lines)


def _told(steps: float, most: int) -> str:
    return f"more than {most}" if steps == float("inf") else f"{steps:.1f}"


def _share(share: float) -> str:
    return "never" if share == float("inf") else f"{share:.2f}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("test", type=Path, nargs="?", help="Folder or zip of CLASS/NAME.png.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--zeta", type=Path, help="Of `invertkit train zeta`.")
    parser.add_argument("--generator", type=Path)
    parser.add_argument("--discriminator", type=Path)
    parser.add_argument("--encoder", type=Path)
    parser.add_argument("--images", type=int, default=48)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--start", choices=("encoder", "random"), default="encoder")
    parser.add_argument("--z-rates", type=_numbers, default=(0.0375, 0.075, 0.15))
    parser.add_argument("--zeta-rates", type=_numbers, default=(0.0075, 0.015, 0.03))
    parser.add_argument("--table", action="store_true", help="Only print what is done.")
    options = parser.parse_args()
    if not options.table and (options.test is None or options.zeta is None):
        parser.error("TEST and --zeta are needed, or --table.")
    return options


def _numbers(typed: str) -> tuple[float, ...]:
    return tuple(float(number) for number in typed.split(","))


if __name__ == "__main__":
    main()

"""Where an edit's latents go, and the directions that a run's folder keeps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor

from invertkit.apps.editing.change import Change, components_of
from invertkit.apps.editing.directions import (
    REACH,
    Steering,
    class_blend,
    principal_directions,
    steering_directions,
)
from invertkit.apps.editing.projection import Projection
from invertkit.apps.editing.refining import refined
from invertkit.core.files import whole_file
from invertkit.core.log import log
from invertkit.errors import WeightsError
from invertkit.models.generators.generator import Generator
from invertkit.models.loading.safetensors_file import metadata
from invertkit.models.loading.weights_file import read_weights

Directions = dict[str, Tensor]
"""Tensors of one file in `directions/`."""


def moved_latents(
    done: Projection,
    change: Change,
    strengths: Sequence[float],
    *,
    steps: int,
    refine: int = 0,
) -> tuple[dict[str, Float[Tensor, "n ..."]], dict[str, Any]]:
    """A generator's latents at every strength, and what is known of the directions.

    The class embeddings go towards the class, the leading latent along everything else; after
    shift and zoom both descend to the moved picture, if asked for.

    Args:
        done: What is changed.
        change: How, at strength 1.
        strengths: How far, each.
        steps: Of Adam, where a walk is learned.
        refine: Of Adam, towards the picture that shift and zoom ask for.
    """
    generator = done.generator
    # Latents that nothing moves are shown once a strength too: the network wants equal batches.
    rows = {
        name: done.tensors[name].expand(len(strengths), *spec.shape)
        for name, spec in generator.latents.items()
    }
    facts: dict[str, Any] = {}
    components = _along_components(done, change.components, facts) if change.components else []
    walks = change.walks()
    walked = [_along_walk(done, walk, amount, facts, steps=steps) for walk, amount in walks.items()]
    if walked and refine:
        ends = rows | _moved(done, strengths, walked)
        rows = _refined(done, (rows, ends), walks, strengths, facts, steps=refine)
        walked = []
    if moves := components + walked:
        name = generator.leading
        rows[name] = rows[name] + _steps(done, strengths, moves)
    if change.label is not None:
        label = generator.label(change.label)
        for name, table in generator.tables.items():
            blended = [
                class_blend(row[None], table[label], strength)
                for row, strength in zip(rows[name], strengths, strict=True)
            ]
            rows[name] = torch.cat(blended)
    return rows, facts


def _steps(
    done: Projection, strengths: Sequence[float], moves: Sequence[Float[Tensor, " d"]]
) -> Float[Tensor, "n ..."]:
    """How far the leading latent goes along moves, which are in its deviations."""
    name = done.generator.leading
    latent, spec = done.tensors[name], done.generator.latents[name]
    deviates = sum(moves, start=torch.zeros(spec.numbers)).reshape(spec.shape).to(latent)
    move = spec.deviation * deviates
    return torch.stack([strength * move for strength in strengths])


def _moved(
    done: Projection, strengths: Sequence[float], moves: Sequence[Float[Tensor, " d"]]
) -> dict[str, Float[Tensor, "n ..."]]:
    """The leading latent at the ends of moves."""
    name = done.generator.leading
    return {name: done.tensors[name] + _steps(done, strengths, moves)}


def _refined(
    done: Projection,
    ends: tuple[Mapping[str, Tensor], Mapping[str, Tensor]],
    walks: Mapping[Steering, float],
    strengths: Sequence[float],
    facts: dict[str, Any],
    *,
    steps: int,
) -> dict[str, Float[Tensor, "n ..."]]:
    """Latents of the moved pictures, from both ends of the walk; `facts` is told."""
    amounts = {
        walk: torch.tensor([amount * strength for strength in strengths]).to(done.generator.like)
        for walk, amount in walks.items()
    }
    start, walked = ends
    weights = done.tensors.get("weights")
    found = refined(done.generator, start, walked, amounts, steps=steps, weights=weights)
    left = (found.losses / found.still.clamp(min=1e-12)).tolist()
    facts["refined"] = {"steps": steps, "left": [round(value, 4) for value in left]}
    asked = [value for value, strength in zip(left, strengths, strict=True) if strength]
    if asked:
        log.info(f"refined: {max(asked):.0%} of the distance to the moved picture is left.")
    return dict(found.latents)


def _along_components(
    done: Projection, components: Mapping[int, float], facts: dict[str, Any]
) -> list[Float[Tensor, " d"]]:
    """A move along each component; `facts` is told."""
    count = components_of(done.generator)
    directions = _kept_or_made(
        done, "components", {"count": count}, partial(_analysed, done.generator, count)
    )
    moves = []
    for number, amount in components.items():
        variance = round(float(directions["variances"][number]), 5)
        facts[f"component {number}"] = {"amount": amount, "variance": variance}
        moves.append(amount * directions["directions"][:, number])
    return moves


def _analysed(generator: Generator, count: int) -> Directions:
    principal = principal_directions(generator, count=count)
    return {"directions": principal.directions, "variances": principal.variances}


def _along_walk(
    done: Projection, walk: Steering, amount: float, facts: dict[str, Any], *, steps: int
) -> Float[Tensor, " d"]:
    """The move of a learned walk; how well it was learned is said, and `facts` is told."""
    directions = _kept_or_made(
        done, walk, {"steps": steps}, partial(_learned, done.generator, walk, steps)
    )
    before, after = directions["losses"].tolist()
    log.info(
        f"{walk}: the learned direction leaves {after / max(before, 1e-12):.0%} of the distance to "
        "a picture that is edited outright, on latents it has not seen."
    )
    if abs(amount) > REACH[walk]:
        log.info(f"{walk}: {amount:.2g} is beyond ±{REACH[walk]:g}, as far as it was learned.")
    facts[walk] = {"amount": amount, "loss_without": before, "loss": after}
    return amount * directions["direction"]


def _learned(generator: Generator, walk: Steering, steps: int) -> Directions:
    learned = steering_directions(generator, walk, steps=steps)
    losses = torch.tensor([learned.still, learned.loss])
    return {"direction": learned.direction, "losses": losses}


def _kept_or_made(
    done: Projection, name: str, options: Mapping[str, Any], make: Callable[[], Directions]
) -> Directions:
    """Tensors from `directions/` of the run's folder; made and written where they are lacking."""
    path = done.run / "directions" / f"{name}.safetensors"
    # Directions of other weights mean nothing; a description names its file by a hash.
    facts = {"generator": done.generator.description, **{k: str(v) for k, v in options.items()}}
    try:
        if path.is_file() and metadata(path) == facts:
            return read_weights(path)
    except WeightsError:
        log.info(f"{path}: is damaged, and made again.")
    log.info(f"{name}: working out the direction; it is kept for the next edit of this run.")
    directions = {key: value.contiguous() for key, value in make().items()}
    _write(path, directions, facts)
    return directions


def _write(path: Path, directions: Directions, facts: Mapping[str, str]) -> None:
    """Keep directions, if the folder can be written: an edit goes on without."""
    try:
        path.parent.mkdir(exist_ok=True)
        with whole_file(path) as partial_path:
            save_file(directions, partial_path, metadata=dict(facts))
    except OSError as error:
        log.info(f"{path}: cannot be written ({error.strerror or error}), so it is not kept.")

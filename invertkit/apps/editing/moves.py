"""Where an edit's latents and transforms go."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor

from invertkit.apps.editing.change import COMPONENTS, Change
from invertkit.apps.editing.directions import (
    REACH,
    Steering,
    class_blend,
    principal_directions,
    steering_directions,
)
from invertkit.apps.editing.projection import _Projection
from invertkit.core.files import whole_file
from invertkit.core.log import log
from invertkit.errors import WeightsError
from invertkit.models.loading.weights_file import metadata, read_weights


def _moved(
    done: _Projection, change: Change, strengths: Sequence[float], *, steps: int
) -> tuple[Float[Tensor, "n z"], Float[Tensor, "n e"], dict[str, Any]]:
    """Latents and embeddings at every strength, and what is known of the directions."""
    generator = done.generator
    latent, embedding = done.tensors["latent"], done.tensors["embedding"]
    move, learned = torch.zeros_like(latent), {}
    for name, part, facts in _parts(done, change, steps=steps):
        move = move + part.to(latent)
        learned[name] = facts
    latents = torch.cat([latent + strength * move for strength in strengths])
    if change.label is None:
        return latents, embedding.expand(len(latents), -1), learned
    new = generator.table[generator.label(change.label)]
    embeddings = torch.cat([class_blend(embedding, new, strength) for strength in strengths])
    return latents, embeddings, learned


def _parts(
    done: _Projection, change: Change, *, steps: int
) -> Iterator[tuple[str, Float[Tensor, " z"], dict[str, Any]]]:
    generator = done.generator
    if change.components:
        count = min(COMPONENTS, generator.latent)

        def analyse() -> dict[str, Tensor]:
            found = principal_directions(generator, count=count)
            return {"directions": found.directions, "variances": found.variances}

        kept = _kept(done, "components", {"count": count}, analyse)
        for number, amount in change.components.items():
            said = {"amount": amount, "variance": round(float(kept["variances"][number]), 5)}
            yield f"component {number}", amount * kept["directions"][:, number], said
    for edit_name, amount in change.walks().items():
        reach = REACH[edit_name]

        def learn(edit_name: Steering = edit_name) -> dict[str, Tensor]:
            walk = steering_directions(generator, edit_name, steps=steps)
            return {
                "direction": walk.direction,
                "losses": torch.tensor([walk.still, walk.loss]),
            }

        kept = _kept(done, edit_name, {"steps": steps}, learn)
        before, after = kept["losses"].tolist()
        log.info(
            f"{edit_name}: the learned direction leaves {after / max(before, 1e-12):.0%} of the "
            "distance to a picture that is edited outright, on latents it has not seen."
        )
        if abs(amount) > reach:
            log.info(f"{edit_name}: {amount:.2g} is beyond ±{reach:g}, as far as it was learned.")
        facts = {"amount": amount, "loss_without": before, "loss": after}
        yield edit_name, amount * kept["direction"], facts


def _kept(
    done: _Projection,
    name: str,
    options: Mapping[str, Any],
    make: Callable[[], dict[str, Tensor]],
) -> dict[str, Tensor]:
    """Tensors from `directions/` of the run's folder; made and written where they are lacking."""
    path = done.run / "directions" / f"{name}.safetensors"
    facts = {"generator": done.generator.description, **{k: str(v) for k, v in options.items()}}
    try:
        if path.is_file() and metadata(path) == facts:
            return read_weights(path)
    except WeightsError:
        log.info(f"{path}: is damaged, and made again.")
    log.info(f"{name}: working out the direction; it is kept for the next edit of this run.")
    made = {key: value.contiguous() for key, value in make().items()}
    try:
        path.parent.mkdir(exist_ok=True)
        with whole_file(path) as partial:
            save_file(made, partial, metadata=facts)
    except OSError as error:
        log.info(f"{path}: cannot be written ({error.strerror or error}), so it is not kept.")
    return made

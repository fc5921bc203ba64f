"""`edit`: change the object of a finished projection, and blend it back into its photograph."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from invertkit.apps.editing.change import Change, _check, _known, _strengths
from invertkit.apps.editing.compose import Placing, Region, compose, generate
from invertkit.apps.editing.moves import _moved
from invertkit.apps.editing.pictures import (
    Edited,
    _write,
)
from invertkit.apps.editing.projection import _Projection
from invertkit.core.devices import pick_device
from invertkit.core.files import new_folder
from invertkit.core.log import log
from invertkit.core.version import __version__
from invertkit.errors import InputError


def edit(
    run: str | Path,
    *,
    label: str | int | None = None,
    components: Mapping[int, float] | None = None,
    shift: tuple[float, float] = (0.0, 0.0),
    zoom: float = 1.0,
    strength: float | Sequence[float] = 1.0,
    seed: int | None = None,
    region: Region = "mask",
    mixed: bool = False,
    size: int = 512,
    steps: int = 200,
    device: str = "auto",
    models: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
) -> Edited:
    """Change the object of a finished projection, and blend it back into its photograph.

    The edits add up; without any, the projection itself is blended in. Directions that have to be
    learned are kept in `directions/` of the run's folder.

    Args:
        run: Folder that `invertkit run project` left.
        label: Class to go to, by name or number.
        components: Steps along the generator's principal components, by number from 0, in
            standard deviations of the latent.
        shift: To the right and down, in sides of the generator's picture.
        zoom: How much larger; below 1, smaller.
        strength: How far to go, 1 for all of it; or several, for a sweep.
        seed: Which image of the run; by default that of the lowest loss.
        region: Where the photograph may change: in the `mask`, or in a `box` around it.
        mixed: Keep the photograph's own gradients where they are the larger ones.
        size: Side of the blended pictures, never more than the photograph's own.
        steps: Of Adam, for the directions of shift and zoom.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        models: The networks that were given to the run from Python, if any were.
        out: Folder to write; without it no picture is written.

    Returns:
        Pictures, one for each strength.

    Raises:
        InputError: The folder holds no finished projection, or an edit does not exist.
    """
    began = time.monotonic()
    change = Change(label, dict(components or {}), shift, zoom)
    strengths = _strengths(strength)
    _check(change, strengths)
    done = _Projection(Path(run), seed, device=pick_device(device), models=models or {})
    change = _known(change, done.generator)
    folder = _folder(Path(out)) if out is not None else None
    try:
        latents, embeddings, learned = _moved(done, change, strengths, steps=steps)
        generator, weights = done.generator, done.tensors.get("weights")
        pictures = generate(generator, latents, embeddings, weights)
        plain = generate(generator, done.tensors["latent"], done.tensors["embedding"], weights)
        photograph, mask = done.photograph(size)
        images, inside = compose(
            photograph,
            pictures.cpu(),
            mask,
            placing=Placing(done.transform, done.tensors.get("transform")),
            region=region,
            mixed=mixed,
        )
    except BaseException:
        if folder is not None and not any(folder.iterdir()):
            folder.rmdir()
        raise
    facts: dict[str, Any] = {
        "run": Path(run).resolve().name,
        "recipe": done.page.name,
        "seed": done.seed,
        "change": asdict(change),
        "strengths": list(strengths),
        "region": region,
        "mixed": mixed,
        "size": list(photograph.shape[-2:]),
        "blended_pixels": int(inside.sum()),
        "mask_pixels": int(mask.sum()),
        "directions": learned,
        "generator": generator.description,
        "device": str(done.device),
        "seconds": round(time.monotonic() - began, 2),
        "invertkit": __version__,
    }
    result = Edited(
        images, pictures.cpu(), strengths, photograph, plain[0].cpu(), inside, change, facts
    )
    if region == "mask" and facts["blended_pixels"] < 0.95 * facts["mask_pixels"]:
        log.info(
            f"The generated picture reaches {facts['blended_pixels'] / facts['mask_pixels']:.0%} "
            "of the mask; the rest keeps the photograph."
        )
    if folder is not None:
        _write(result, folder)
    return result


# ---------------------------------------------------------------------- what is asked for


def _folder(folder: Path) -> Path:
    if folder.is_dir() and any(folder.iterdir()):
        raise InputError(
            f"{folder}: exists and is not empty, and nothing is overwritten. Choose another "
            "folder with `--out`."
        )
    return new_folder(folder)


# ---------------------------------------------------------------------- the run


# ---------------------------------------------------------------------- moving


# ---------------------------------------------------------------------- pictures

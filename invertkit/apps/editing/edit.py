"""`edit`: change the object of a finished projection, and blend it back into its photograph."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

from torch import Tensor

from invertkit.apps.editing.change import Change, known_to, strengths_of
from invertkit.apps.editing.compose import BlendRegion, Placing, compose, generate
from invertkit.apps.editing.moves import moved_latents
from invertkit.apps.editing.pictures import Edited, write_edited
from invertkit.apps.editing.projection import Projection, read_projection
from invertkit.core.devices import pick_device
from invertkit.core.files import folder_if_it_succeeds
from invertkit.core.log import log
from invertkit.core.modes import ordinary_modes
from invertkit.core.version import __version__
from invertkit.errors import InputError
from invertkit.variables.base import Variable


@final
@dataclass(frozen=True)
class Blend:
    """How the generator's pictures are joined to the photograph.

    Args:
        region: Where it may change.
        mixed: Keep its own gradients where they are the larger ones.
        size: Largest side.
    """

    region: BlendRegion
    mixed: bool
    size: int


@ordinary_modes()
def edit(
    run: str | Path,
    *,
    label: str | int | None = None,
    components: Mapping[int, float] | None = None,
    shift: tuple[float, float] = (0.0, 0.0),
    zoom: float = 1.0,
    strength: float | Sequence[float] = 1.0,
    seed: int | None = None,
    region: BlendRegion = "mask",
    mixed: bool = False,
    size: int = 512,
    steps: int = 200,
    refine: int = 60,
    device: str = "auto",
    models: Mapping[str, Any] | None = None,
    variable: Variable | None = None,
    out: str | Path | None = None,
) -> Edited:
    """Change the object of a finished projection, and blend it back into its photograph.

    Edits add up; without any, the projection itself is blended in. Directions that are learned are
    kept in `directions/` of the run's folder.

    Args:
        run: Folder that `invertkit run project` left.
        label: Class to go to, by name or number.
        components: Steps along principal components, by number from 0, in deviations of the latent.
        shift: To the right and down, in sides of the generator's picture.
        zoom: How much larger; below 1, smaller.
        strength: How far to go, 1 for all of it; or several, for a sweep.
        seed: Which image of the run; by default that of the lowest loss.
        region: Where the photograph may change: in the `mask`, or in a `box` around it.
        mixed: Keep the photograph's own gradients where they are the larger ones.
        size: Side of the blended pictures, never more than the photograph's own.
        steps: Of Adam, for the directions of shift and zoom.
        refine: Of Adam, from there to the moved picture; 0 leaves it where the direction leads.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        models: The networks that were given to the run from Python, if any were.
        variable: The variable, likewise.
        out: Folder to write; without it no picture is written.

    Returns:
        Pictures, one for each strength.

    Raises:
        InputError: The folder holds no finished projection, or an edit does not exist.
    """
    began = time.monotonic()
    change = Change(label, dict(components or {}), shift, zoom)
    strengths = strengths_of(strength, change)
    place = pick_device(device)
    done = read_projection(Path(run), seed, device=place, models=models or {}, variable=variable)
    change, blend = known_to(done.generator, change), Blend(region, mixed=mixed, size=size)
    with _folder(out) as folder:
        found = moved_latents(done, change, strengths, steps=steps, refine=refine)
        result = _edited(done, change, strengths, blend, found=found, began=began)
    if folder is not None:
        write_edited(result, folder)
    return result


def _edited(
    done: Projection,
    change: Change,
    strengths: tuple[float, ...],
    blend: Blend,
    *,
    found: tuple[Mapping[str, Tensor], dict[str, Any]],
    began: float,
) -> Edited:
    latents, learned = found
    weights = done.tensors.get("weights")
    pictures = generate(done.generator, latents, weights).cpu()
    # The projection as the run left it, to stand beside the edits.
    plain = generate(done.generator, done.tensors, weights)
    photograph, mask = done.photograph(blend.size)
    images, inside = compose(
        photograph,
        pictures,
        mask,
        placing=Placing(done.transform, done.tensors.get("transform")),
        region=blend.region,
        mixed=blend.mixed,
    )
    # Less than all is no fault, since a transform may lie beyond the photograph's edge.
    blended, wanted = int(inside.sum()), int(mask.sum())
    if blend.region == "mask" and blended < 0.95 * wanted:
        log.info(
            f"The generated picture reaches {blended / wanted:.0%} of the mask; the rest keeps the "
            "photograph."
        )
    facts = {
        **_facts(done, change, strengths, blend),
        "size": list(photograph.shape[-2:]),
        "blended_pixels": blended,
        "mask_pixels": wanted,
        "directions": learned,
        "seconds": round(time.monotonic() - began, 2),
    }
    return Edited(images, pictures, strengths, photograph, plain[0].cpu(), inside, change, facts)


def _folder(out: str | Path | None) -> AbstractContextManager[Path | None]:
    """The folder to write, which must be empty."""
    # `new_folder` would say to resume it, were it the run's.
    if out is not None and Path(out).is_dir() and any(Path(out).iterdir()):
        raise InputError(
            f"{out}: exists and is not empty, and nothing is overwritten. Choose another folder "
            "with `--out`."
        )
    return folder_if_it_succeeds(out)


def _facts(
    done: Projection, change: Change, strengths: tuple[float, ...], blend: Blend
) -> dict[str, Any]:
    """What was asked of which run, for `edit.json`."""
    return {
        "run": done.run.resolve().name,
        "recipe": done.page.name,
        "seed": done.seed,
        "change": asdict(change),
        "strengths": list(strengths),
        "region": blend.region,
        "mixed": blend.mixed,
        "generator": done.generator.description,
        "device": str(done.device),
        "invertkit": __version__,
    }

"""A finished projection, read from its folder."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from invertkit.core.images.inputs import Inputs
from invertkit.core.regions import SOURCE_MASK
from invertkit.errors import InputError
from invertkit.models.generators.generator import Generator
from invertkit.models.loading.weights_file import read_weights
from invertkit.recipe.build import build_part, stage_part
from invertkit.recipe.page import Page, validate
from invertkit.recipe.registry import Registry
from invertkit.runs import checkpoint
from invertkit.runs.batch_outcome import BatchOutcome
from invertkit.runs.checkpoint import Checkpoint
from invertkit.runs.objects import made_in_python, registry_of
from invertkit.variables.base import Variable
from invertkit.variables.latent import Latent
from invertkit.variables.transformed import Transformed
from invertkit.variables.transforms.base import Transform


@final
@dataclass(frozen=True)
class Projection:
    """What a finished run found, and the networks to go on with.

    Args:
        run: Its folder.
        device: Where the generator and the tensors are.
        page: Its recipe.
        inputs: Its photograph and masks, whole.
        seed: Of the image that is edited.
        generator: That it was projected into.
        transform: That brought the photograph to the generator; none if it was only resized.
        tensors: Of the image, by name: the generator's latents, perhaps `transform`, `weights`.
    """

    run: Path
    device: torch.device
    page: Page
    inputs: Inputs
    seed: int
    generator: Generator
    transform: Transform | None
    tensors: Mapping[str, Float[Tensor, "1 ..."]]

    def photograph(self, size: int) -> tuple[Float[Tensor, "3 h w"], Float[Tensor, "1 h w"]]:
        """The part that the run saw, as large as it is but for `size`; and its mask.

        Raises:
            InputError: There is no photograph or no mask, or the size is too small.
        """
        image, mask = self.inputs.reference, self.inputs.find(SOURCE_MASK)
        if image is None or mask is None:
            lacking = "photograph" if image is None else "mask"
            raise InputError(f"{self.run}: has no {lacking}, so there is nowhere to blend.")
        if size < 16:
            raise InputError(f"size: expected at least 16 pixels, got {size}.")
        height, width = image.shape[-2:]
        fit = self.page.fit
        largest = round(math.sqrt(height * width)) if fit == "keep" else min(height, width)
        fitted = self.inputs.at(self.inputs.size(min(largest, size), fit), fit)
        return fitted.need(fitted.lead)[0], fitted.need(SOURCE_MASK)[0]


def read_projection(
    run: Path,
    seed: int | None,
    *,
    device: torch.device,
    models: Mapping[str, Any],
    variable: Variable | None = None,
) -> Projection:
    """A finished projection, from its folder.

    Args:
        run: Its folder.
        seed: Which image; by default that of the lowest loss.
        device: Where to go on.
        models: Networks given from Python, by name.
        variable: The variable given from Python, if it was.

    Raises:
        InputError: It is missing, unfinished, not a projection, or of another generator.
    """
    if not run.is_dir():
        raise InputError(
            f"{run}: no such folder; expected that of a finished `invertkit run project`."
        )
    saved = checkpoint.load(run)
    given = made_in_python(saved.recipe)
    if "variable" in given and variable is None:
        raise InputError(
            f"{run}: was made with a variable given from Python; edit it from there: "
            f"`invertkit.edit({str(run)!r}, variable=…, …)`."
        )
    registry = registry_of(replace(saved.settings, variable=variable))
    page, (photograph, *_) = validate(saved.recipe), saved.photographs
    if name := photograph.name:
        raise InputError(
            f"{run}: is a run over several photographs; edit one of them, such as {run / name}."
        )
    transform, latent = _last_latents(run, page, registry)
    seed = _seed_of(run, seed, saved)
    if latent.model in given.get("models", ()) and latent.model not in models:
        raise InputError(
            f"{run}: was made with a generator given from Python; edit it from there: "
            f"`invertkit.edit({str(run)!r}, models={{{latent.model!r}: …}}, …)`."
        )
    generator = _generator(run, page, registry, latent.model, models).to(device)
    return Projection(
        run,
        device,
        page,
        photograph,
        seed,
        generator,
        transform,
        _tensors(run / "tensors" / f"seed-{seed}.safetensors", generator, transform, device),
    )


def _seed_of(run: Path, seed: int | None, saved: Checkpoint) -> int:
    """The seed that was asked for, or that of the lowest loss; the run is finished."""
    losses: dict[int, float] = {
        finished: loss
        for batch in saved.done
        if isinstance(batch, BatchOutcome)
        for finished, loss in zip(batch.seeds, batch.best_losses, strict=True)
    }
    if saved.now is not None or not losses.keys() >= set(saved.settings.image_seeds):
        raise InputError(f"{run}: is unfinished; first `invertkit resume {run}`.")
    if seed is None:
        return min(losses, key=lambda finished: losses[finished])
    if seed not in losses:
        known = ", ".join(map(str, losses))
        raise InputError(f"seed: {run} has no image of seed {seed}; it has: {known}.")
    return seed


def _last_latents(run: Path, page: Page, registry: Registry) -> tuple[Transform | None, Latent]:
    """The transform and the latents that the last stage optimised."""
    at, node = "variable", page.variable
    for key, stage in page.in_order():
        if stage.variable is not None:
            at = f"stages.{key}.variable"
            node = stage_part("variable", stage.variable, page) or page.variable
    variable: Variable = build_part("variable", node, at=at, registry=registry)
    transform = None
    # Wrappers such as `hold` change what is seen of the latents, and an edit starts at the latents.
    while (inner := getattr(variable, "inner", None)) is not None:
        if isinstance(variable, Transformed):
            transform = variable.transform
        variable = inner
    if isinstance(variable, Latent):
        return transform, variable
    raise InputError(
        f"{run}: is a run of {page.name}, which projects nothing into a generator; expected one of "
        "`invertkit run project`."
    )


def _generator(
    run: Path, page: Page, registry: Registry, name: str, models: Mapping[str, Any]
) -> Generator:
    """The generator that the run projected into."""
    node = page.models.get(name)
    generator = models.get(name) or build_part(
        "model",
        {"type": node} if isinstance(node, str) else node,
        at=f"models.{name}",
        registry=registry,
    )
    if not isinstance(generator, Generator):
        raise InputError(f"models.{name}: expected a generator, got {type(generator).__name__}.")
    # A latent means nothing to other weights, and no shape would tell.
    before = _described(run / "recipe.yaml", name)
    if before is not None and before != generator.description:
        raise InputError(
            f"{run}: was made with {before}; here is {generator.description}, to which its "
            "latents mean nothing. Project the photograph again."
        )
    return generator


def _tensors(
    path: Path, generator: Generator, transform: Transform | None, device: torch.device
) -> dict[str, Tensor]:
    """The tensors that a run found, of the shapes that its generator takes."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; the run's folder is not whole.")
    tensors = read_weights(path)
    wanted = {name: spec.shape for name, spec in generator.latents.items()}
    if transform is not None:
        wanted["transform"] = (transform.size,)
    if "weights" in tensors:
        wanted["weights"] = (generator.tunable_size(),)
    for name, shape in wanted.items():
        if name not in tensors or tuple(tensors[name].shape) != (1, *shape):
            raise InputError(
                f"{path}: expected a tensor {name!r} of shape {(1, *shape)}, as "
                f"{generator.description} has it; the run's folder is not whole."
            )
    return {name: value.to(device) for name, value in tensors.items()}


def _described(page: Path, name: str) -> str | None:
    """What the header of a resolved page calls a model."""
    if not page.is_file():
        return None
    header = re.search(
        rf"^# Model {re.escape(name)}: (.*)\.$", page.read_text(encoding="utf-8"), re.MULTILINE
    )
    return header[1] if header else None

"""A finished projection, read from its folder."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from invertkit.core.images.inputs import Inputs
from invertkit.errors import InputError
from invertkit.models.generators.generator import Generator
from invertkit.models.loading.weights_file import read_weights
from invertkit.recipe.build import build_part, stage_part
from invertkit.recipe.page import Page, validate
from invertkit.recipe.registry import Registry
from invertkit.runs import checkpoint
from invertkit.variables.base import Variable
from invertkit.variables.latent import Latent
from invertkit.variables.transformed import Transformed
from invertkit.variables.transforms.base import Transform
from invertkit.variables.tuned import Tuned


@final
class _Projection:
    """What a finished run found, and the networks to go on with.

    Raises:
        InputError: It is missing, unfinished, or not a projection.
    """

    def __init__(
        self, run: Path, seed: int | None, *, device: torch.device, models: Mapping[str, Any]
    ) -> None:
        self.run, self.device = run, device
        if not run.is_dir():
            raise InputError(
                f"{run}: no such folder; expected that of a finished `invertkit run project`."
            )
        begun, state = checkpoint.load(run)
        registry = Registry()
        for path in begun["parts"]:
            registry = registry.with_parts(Path(path))
        self.page: Page = validate(begun["recipe"])
        if name := begun["photographs"][0]["name"]:
            raise InputError(
                f"{run}: is a run over several photographs; edit one of them, such as {run / name}."
            )
        self.inputs = Inputs.load(begun["photographs"][0])
        self.transform, latent = _unwrapped(run, self.page, registry)
        batches = state["done"]
        losses = {
            kept: loss
            for batch in batches
            for kept, loss in zip(batch["seeds"], batch["best_losses"], strict=True)
        }
        if state["now"] is not None or any(kept not in losses for kept in begun["seeds"]):
            raise InputError(f"{run}: is unfinished; first `invertkit resume {run}`.")
        self.seed = min(losses, key=lambda kept: losses[kept]) if seed is None else seed
        if self.seed not in losses:
            known = ", ".join(map(str, losses))
            raise InputError(f"seed: {run} has no image of seed {seed}; it has: {known}.")
        self.generator = self._generator(latent.model, begun["models"], registry, models)
        self.tensors = self._tensors()

    def _generator(
        self, name: str, given: Sequence[str], registry: Registry, models: Mapping[str, Any]
    ) -> Generator:
        if name in given and name not in models:
            raise InputError(
                f"{self.run}: was made with a generator given from Python; edit it from there: "
                f"`invertkit.edit({str(self.run)!r}, models={{{name!r}: …}}, …)`."
            )
        node = self.page.models.get(name)
        made = models.get(name) or build_part(
            "model",
            {"type": node} if isinstance(node, str) else node,
            at=f"models.{name}",
            registry=registry,
        )
        if not isinstance(made, Generator):
            raise InputError(f"models.{name}: expected a generator, got {type(made).__name__}.")
        before = _described(self.run / "recipe.yaml", name)
        if before is not None and before != made.description:
            raise InputError(
                f"{self.run}: was made with {before}; here is {made.description}, to which its "
                "latents mean nothing. Project the photograph again."
            )
        return made.to(self.device)

    def _tensors(self) -> dict[str, Tensor]:
        path = self.run / "tensors" / f"seed-{self.seed}.safetensors"
        if not path.is_file():
            raise InputError(f"{path}: no such file; the run's folder is not whole.")
        found = read_weights(path)
        wanted = {
            "latent": self.generator.latent,
            "embedding": self.generator.table.shape[1],
            "weights": self.generator.tunable_size(),
        }
        if self.transform is not None:
            wanted["transform"] = self.transform.size
        for name, length in wanted.items():
            if name == "weights" and name not in found:
                continue
            if name not in found or tuple(found[name].shape) != (1, length):
                raise InputError(
                    f"{path}: expected a tensor {name!r} of shape (1, {length}), as "
                    f"{self.generator.description} has it; the run's folder is not whole."
                )
        return {name: value.to(self.device) for name, value in found.items()}

    def photograph(self, size: int) -> tuple[Float[Tensor, "3 h w"], Float[Tensor, "1 h w"]]:
        """The part that the run saw, as large as it is but for `size`; and its mask."""
        image, mask = self.inputs.image, self.inputs.mask
        if image is None or mask is None:
            lacking = "photograph" if image is None else "mask"
            raise InputError(f"{self.run}: has no {lacking}, so there is nowhere to blend.")
        if size < 16:
            raise InputError(f"size: expected at least 16 pixels, got {size}.")
        height, width = image.shape[-2:]
        fit = self.page.fit
        own = round(math.sqrt(height * width)) if fit == "keep" else min(height, width)
        fitted = self.inputs.at(self.inputs.size(min(own, size), fit), fit)
        assert fitted.image is not None  # noqa: S101 # as there was one
        assert fitted.mask is not None  # noqa: S101
        return fitted.image[0], fitted.mask[0]


def _unwrapped(run: Path, page: Page, registry: Registry) -> tuple[Transform | None, Latent]:
    """The transform and the latents that the last stage optimised."""
    at, node = "variable", page.variable
    for key, stage in page.in_order():
        if stage.variable is not None:
            at = f"stages.{key}.variable"
            node = stage_part("variable", stage.variable, page) or page.variable
    variable: Variable = build_part("variable", node, at=at, registry=registry)
    if isinstance(variable, Tuned):
        variable = variable.inner
    if isinstance(variable, Transformed):
        return variable.transform, variable.inner
    if isinstance(variable, Latent):
        return None, variable
    raise InputError(
        f"{run}: is a run of {page.name}, which projects nothing into a generator; expected one of "
        "`invertkit run project`."
    )


def _described(page: Path, name: str) -> str | None:
    """What the header of a resolved page calls a model."""
    if not page.is_file():
        return None
    found = re.search(
        rf"^# Model {re.escape(name)}: (.*)\.$", page.read_text(encoding="utf-8"), re.MULTILINE
    )
    return found[1] if found else None

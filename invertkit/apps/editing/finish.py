"""What a recipe makes of its result when every step is taken: the role, and what it gives back."""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, final

import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from invertkit.apps.editing.compose import Placing, compose
from invertkit.apps.editing.pictures import animated, grid, save_animation, spread
from invertkit.core.images.inputs import Inputs
from invertkit.core.images.load import Fit
from invertkit.core.images.resize import resize_image
from invertkit.core.images.save import save_png
from invertkit.core.log import log
from invertkit.core.randomness import Randomness
from invertkit.core.version import __version__
from invertkit.errors import InputError
from invertkit.models.generators.generator import Generator
from invertkit.runs.job import Job
from invertkit.runs.result import Result

Latents = dict[str, Tensor]


@final
@dataclass(frozen=True)
class Projected:
    """A photograph and the latents that the run has found for it.

    Args:
        result: Of the run.
        generator: That it was projected into.
        latents: Of the image of lowest loss, by name, `(1, …)`.
        weights: What was added to the generator's weights, if they were tuned.
    """

    result: Result
    generator: Generator
    latents: Mapping[str, Float[Tensor, "1 ..."]]
    weights: Float[Tensor, "1 p"] | None = None

    @classmethod
    def of(cls, result: Result, generator: Generator) -> Projected:
        """The best image of a result.

        Raises:
            InputError: The run optimised no latents of this generator, or moved the photograph.
        """
        lacking = [name for name in generator.latents if name not in result.tensors]
        if lacking or "transform" in result.tensors:
            raise InputError(
                "finish: takes a run that projects the whole photograph into a generator (a "
                "variable `latent`, without a transform); this one has "
                f"{', '.join(result.tensors) or 'no latents'}."
            )
        best = min(range(len(result.seeds)), key=lambda number: result.best_losses[number])
        # Where the generator is: a result's tensors lie on the CPU.
        rows = {
            name: rows[best : best + 1].to(generator.like.device)
            for name, rows in result.tensors.items()
        }
        latents = {name: rows[name] for name in generator.latents}
        return cls(result, generator, latents, rows.get("weights"))

    def drawn(self, latents: Mapping[str, Any]) -> Float[Tensor, "1 3 s s"]:
        """The picture of latents or class maps, by the generator as the run left it."""
        with torch.no_grad():
            if self.weights is None:
                return self.generator.generate(**latents).cpu()
            return self.generator.generate_with(self.weights, **latents).cpu()

    def inputs(self, size: int) -> Inputs:
        """What was given, at most `size` pixels a side, as the run saw it."""
        given, fit = self.result.inputs, self.result.recipe.get("fit", "stretch")
        return fitted(given, size, fit)


def fitted(inputs: Inputs, size: int, fit: Fit) -> Inputs:
    """Inputs as large as the photograph is, but for `size`.

    Raises:
        InputError: The size is too small.
    """
    if size < 16:
        raise InputError(f"size: expected at least 16 pixels, got {size}.")
    assert inputs.reference is not None  # noqa: S101 # a finish has checked it
    height, width = inputs.reference.shape[-2:]
    largest = round(math.sqrt(height * width)) if fit == "keep" else min(height, width)
    return inputs.at(inputs.size(min(largest, size), fit), fit)


class Finish(ABC):
    """What is made of a projection when every step is taken.

    Its options stand on the page under `finish`; it is told the inputs before the first step, so
    that a mistake costs no projection, and the results after the last one.

    Attributes:
        model: Name of the generator, in `models`.
    """

    model: str = "generator"
    noun: ClassVar[str] = "finished"
    """What its picture is called."""

    def cases(self, inputs: Inputs) -> tuple[Inputs, ...]:
        """The photographs to project, each with what belongs to it; by default the one."""
        return (inputs,)

    @abstractmethod
    def check(self, inputs: Inputs, generator: Generator, fit: Fit) -> None:
        """Complain of inputs that it could not go on with.

        Raises:
            InputError: There are such.
        """

    @abstractmethod
    def demonstration(self, generator: Generator) -> dict[str, Any]:
        """Inputs by name for whoever gives none: the package's, or drawn by the generator."""

    @abstractmethod
    def made(self, projected: Sequence[Projected]) -> Finished:
        """The pictures of what `cases` listed, in its order."""


def chosen_strengths(strength: float | Sequence[float]) -> tuple[float, ...]:
    """One strength or several, each in [0, 1].

    Raises:
        InputError: None, or one that is not.

    Example:
        >>> chosen_strengths(1), chosen_strengths([0, 0.5, 1])
        ((1.0,), (0.0, 0.5, 1.0))
    """
    several = (strength,) if isinstance(strength, int | float) else tuple(strength)
    if not several or not all(0 <= each <= 1 for each in several):
        raise InputError(f"strength: expected a number in [0, 1] or several, got {strength!r}.")
    return tuple(map(float, several))


def sample(generator: Generator, label: int, seed: int) -> tuple[Latents, Float[Tensor, "3 s s"]]:
    """Latents of a class and their picture, for demonstrations.

    Example:
        >>> from invertkit.models.generators.open import embedded_generator
        >>> latents, picture = sample(embedded_generator(), 0, 1)
        >>> picture.shape[0]
        3
    """
    draws = Randomness((seed,))
    latents = {}
    for name, spec in generator.latents.items():
        table = generator.tables.get(name)
        if table is not None:
            latents[name] = table[label : label + 1]
            continue
        deviates = draws.normal(f"demonstration {name}", spec.shape).clamp(-2, 2)
        latents[name] = spec.placed(deviates.to(generator.like))
    with torch.no_grad():
        picture = generator.generate(**latents).clamp(0, 1).cpu()
    # A photograph of fewer pixels than this is refused, and a sheet of it says little.
    sides = [max(64, side) for side in picture.shape[-2:]]
    return latents, resize_image(picture, (sides[0], sides[1]))[0]


def alike_classes(generator: Generator) -> tuple[int, int]:
    """The two classes whose embeddings point most nearly the same way.

    Example:
        >>> from invertkit.models.generators.open import embedded_generator
        >>> len(set(alike_classes(embedded_generator())))
        2

    Raises:
        InputError: There are not two classes.
    """
    if len(generator.classes) < 2:
        raise InputError(f"{generator.description} has not two classes, so there is none to go to.")
    rows = torch.cat([table.flatten(1) for table in generator.tables.values()], 1)
    alike = F.normalize(rows, dim=1) @ F.normalize(rows, dim=1).mT
    alike.fill_diagonal_(-2)
    place = int(alike.argmax())
    return place // len(rows), place % len(rows)


def joined_to(
    photograph: Float[Tensor, "3 h w"],
    pictures: Float[Tensor, "n 3 s s"],
    changed: Float[Tensor, "1 h w"],
    *,
    mixed: bool = False,
) -> tuple[Float[Tensor, "n 3 h w"], Bool[Tensor, "1 h w"]]:
    """Pictures blended into the photograph where they were changed, by Poisson's equation.

    Where all of it was changed there is nothing to join them to, and they stay as they are.

    Args:
        photograph: In [0, 1].
        pictures: The generator's, one for each strength.
        changed: How much each place was changed, in [0, 1].
        mixed: See `poisson_blend`.

    Example:
        >>> changed = torch.zeros(1, 4, 4)
        >>> changed[:, 1:3, 1:3] = 1
        >>> images, inside = joined_to(torch.zeros(3, 4, 4), torch.rand(1, 3, 2, 2), changed)
        >>> images.shape, int(inside.sum())
        (torch.Size([1, 3, 4, 4]), 4)
    """
    # A twentieth: beyond it a softened map says that nothing was asked.
    inside = changed > 0.05
    if bool(inside.all()) or not bool(inside.any()):
        where = "everywhere" if bool(inside.all()) else "nowhere"
        log.info(f"The picture is changed {where}, so there is nothing to join it to.")
        placed, _ = Placing().back(pictures, (photograph.shape[-2], photograph.shape[-1]))
        return placed if where == "everywhere" else photograph.expand_as(placed), inside
    return compose(photograph, pictures, inside.float(), placing=Placing(), mixed=mixed)


@final
@dataclass(frozen=True)
class Finished:
    """What a finish has made, one picture for each strength.

    Args:
        images: Joined to the photograph.
        generated: The generator's own pictures.
        strengths: Of the change.
        before: Labelled pictures that explain them: source, map, projection.
        noun: What the pictures are called.
        words: What was done, in words.
        region: Where the photograph could change.
        facts: As in `finish.json`.
        results: Of the projections.
    """

    images: Float[Tensor, "n 3 h w"]
    generated: Float[Tensor, "n 3 s s"]
    strengths: tuple[float, ...]
    before: Sequence[tuple[str, Float[Tensor, "_ _ _"]]]
    noun: str
    words: str
    region: Bool[Tensor, "1 h w"]
    facts: Mapping[str, Any]
    results: tuple[Result, ...]

    def __repr__(self) -> str:
        count, (height, width) = len(self.strengths), self.images.shape[-2:]
        pictures = f"{count} picture{'' if count == 1 else 's'} of {width}×{height}"
        return f"<Finished: {self.noun}, {self.words}; {pictures}>"

    def sheet(self) -> Image.Image:
        """Source, map, projection, the generator's picture and the blended one, labelled."""
        if len(self.strengths) == 1:
            at = "" if self.strengths[0] == 1 else f" at strength {self.strengths[0]:g}"
            made = [(f"{self.noun}{at}", self.generated[0]), ("blended", self.images[0])]
            return grid([[*self.before, *made]], self.words)
        shown = spread(len(self.strengths))
        rows = [
            [(f"{what}, strength {self.strengths[i]:g}", pictures[i]) for i in shown]
            for what, pictures in ((self.noun, self.generated), ("blended", self.images))
        ]
        return grid([list(self.before), *rows], self.words)

    def frames(self) -> list[Image.Image]:
        """The blended pictures, each under its strength."""
        return animated(self.images, self.strengths, self.words)


def write_finished(made: Finished, folder: Path) -> None:
    """Fill a folder that is there already, beside what the projection has left in it.

    Raises:
        InputError: It cannot be written.
    """
    text = {"finish": made.words, "software": f"invertkit {__version__}"}
    try:
        save_png(made.images[-1], folder / f"{made.noun}.png", text=text)
        save_png(made.generated[-1], folder / f"{made.noun}-generated.png", text=text)
        if len(made.strengths) > 1:
            (folder / "frames").mkdir(exist_ok=True)
            for i, image in enumerate(made.images):
                name = f"{i:02}_{made.strengths[i]:.3f}.png"
                save_png(image, folder / "frames" / name, text=text)
            save_animation(made.frames(), folder / "animation.gif")
        made.sheet().save(folder / "sheet.png")
        facts = json.dumps(made.facts, indent=2)
        (folder / "finish.json").write_text(facts, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror or error}).") from None


def generator_of(job: Job, name: str) -> Generator:
    """The generator of a job whose networks are opened.

    Raises:
        InputError: There is none of that name.
    """
    generator = job.settings.models.get(name)
    if not isinstance(generator, Generator):
        raise InputError(f"finish.model: there is no generator {name!r} in `models`.")
    return generator

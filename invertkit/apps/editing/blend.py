"""Feature blending of photographs: parts of others in the projection of one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, final

import torch
from annotated_types import Ge, Le
from jaxtyping import Float
from torch import Tensor

from invertkit.apps.editing.finish import (
    Finish,
    Finished,
    Projected,
    alike_classes,
    chosen_strengths,
    fitted,
    joined_to,
    sample,
)
from invertkit.core.images.inputs import Inputs
from invertkit.core.images.kinds import WordsKind, words_in
from invertkit.core.images.load import Fit
from invertkit.core.images.resampling import moved
from invertkit.core.images.save import to_picture
from invertkit.core.images.specs import InputSpec
from invertkit.core.ranges import NonNegative
from invertkit.core.version import __version__
from invertkit.errors import InputError
from invertkit.models.classifiers.class_names import class_place
from invertkit.models.generators.class_weights import SOFTEN, soften
from invertkit.models.generators.feature_blend import FeatureSource, blend_levels, blended
from invertkit.models.generators.generator import Generator
from invertkit.models.generators.layer_choice import LayerChoice, LayerWord, layer_strengths

Share = Annotated[float, Ge(0), Le(1)]


@final
class Blend(Finish):
    """Features of other photographs in a projected one, where masks want them.

    The inputs are `image`; `references`, other photographs; `masks`, one for each of them, of the
    image's size, white where its features shall be in the result; and `classes`, the image's class
    and that of each reference, or one for all. Places that no mask covers keep the image's own
    features; masks that overlap are refused.

    Args:
        levels: At which levels features are blended, from the first map (0) on, for all
            references: `all`, `first`, `early`, `late`, numbers, or a strength by number.
        shift: Of each reference's features, to the right and down, in sides of the picture; none
            by default.
        strength: Factor of all levels' strengths, in [0, 1]; or several, for a sweep.
        soften: Deviation of the Gaussian over the masks, as a share of their side.
        mixed: Keep the photograph's own gradients where they are the larger ones.
        size: Largest side of the blended pictures.
        model: The generator, in `models`.

    Raises:
        InputError: A strength is not in [0, 1].

    Example:
        >>> Blend(levels="early", shift=[(0.1, 0.0)]).shift
        [(0.1, 0.0)]

    Source: Suzuki et al. 2018, §3.2 and §5. The shift is the paper's; the released code lacks it.
    """

    noun: ClassVar[str] = "blend"

    def __init__(
        self,
        *,
        levels: LayerWord | list[int] | dict[int, Share] = "all",
        shift: list[tuple[float, float]] | None = None,
        strength: Share | list[Share] = 1.0,
        soften: NonNegative = SOFTEN,
        mixed: bool = False,
        size: int = 512,
        model: str = "generator",
    ) -> None:
        self.levels: LayerChoice = levels
        self.shift = shift or []
        self.strengths = chosen_strengths(strength)
        self.soften = soften
        self.mixed, self.size, self.model = mixed, size, model

    # ------------------------------------------------------------------ what it is given

    def cases(self, inputs: Inputs) -> tuple[Inputs, ...]:
        """The image, with everything that was given, and each reference with its class."""
        classes = _classes(inputs)
        own = inputs.replaced({"classes": WordsKind().load(classes[:1], who="classes")})
        references = inputs["references"]
        specs = {"image": InputSpec(), "classes": InputSpec("words")}
        others = [
            Inputs(
                {"image": reference, "classes": WordsKind().load([name], who="classes")},
                specs,
                f"reference-{number}",
            )
            for number, (reference, name) in enumerate(
                zip(references, classes[1:], strict=True), start=1
            )
        ]
        return (_named(own, "image"), *others)

    def check(self, inputs: Inputs, generator: Generator, fit: Fit) -> None:
        levels = blend_levels(generator)
        if inputs.reference is None:
            raise InputError("image: a blend is made in a photograph; give one.")
        references, masks = inputs.get("references"), inputs.get("masks")
        if not isinstance(references, tuple):
            raise InputError(
                "references: a blend takes features of other photographs; give them: `--input "
                "references=b.jpg,c.jpg`."
            )
        given = len(masks) if isinstance(masks, tuple) else 0
        if given != len(references):
            raise InputError(
                f"masks: every reference has a mask of where its features shall be; there "
                f"{'is 1 mask' if given == 1 else f'are {given} masks'} for {len(references)}."
            )
        if self.shift and len(self.shift) != len(references):
            raise InputError(
                f"finish.shift: one for each of the {len(references)} references, or none; got "
                f"{len(self.shift)}."
            )
        for name in _classes(inputs):
            generator.label(name)
        # As many sides as levels; which they are does not matter for numbers out of range.
        layer_strengths(self.levels, [4 << number for number in range(len(levels))])
        _check_overlap(_stacked(fitted(inputs, self.size, fit)))

    def demonstration(self, generator: Generator) -> dict[str, Any]:
        blend_levels(generator)
        known = class_place("golden retriever", generator.classes)
        own = alike_classes(generator)[0] if known is None else known
        pictures = [sample(generator, own, seed=seed)[1] for seed in (4, 2)]
        height, width = pictures[0].shape[-2:]
        mask = torch.zeros(1, 1, height, width)
        mask[..., width // 2 :] = 1
        image, reference = map(to_picture, pictures)
        return {
            "image": image,
            "references": [reference],
            "masks": [mask[0]],
            "classes": [generator.classes[own]],
        }

    # ------------------------------------------------------------------ what it makes

    def made(self, projected: Sequence[Projected]) -> Finished:
        target, *references = projected
        inputs = target.inputs(self.size)
        assert inputs.reference is not None  # noqa: S101 # by `check`
        masks = _stacked(inputs)
        shifts = self.shift or [(0.0, 0.0)] * len(references)
        sources = [
            FeatureSource(reference.latents, mask[None, None], self.levels, shift)
            for reference, mask, shift in zip(references, masks, shifts, strict=True)
        ]
        pictures = torch.cat(
            [
                blended(
                    target.generator,
                    target.latents,
                    sources,
                    strength=strength,
                    softened_by=self.soften,
                ).cpu()
                for strength in self.strengths
            ]
        )
        photograph = inputs.reference[0]
        changed = soften(masks[None], self.soften, normalize=False)[0].sum(0, keepdim=True)
        images, inside = joined_to(photograph, pictures, changed, mixed=self.mixed)
        return Finished(
            images=images,
            generated=pictures,
            strengths=self.strengths,
            before=[
                ("source", photograph),
                *_before(references, masks, shifts),
                ("projection", target.drawn(target.latents)[0]),
            ],
            noun=self.noun,
            words=f"{len(references)} of others blended in, levels {self.levels}",
            region=inside,
            facts={
                "finish": "blend",
                "levels": str(self.levels),
                "shift": [list(each) for each in shifts],
                "strengths": list(self.strengths),
                "soften": self.soften,
                "changed_pixels": int(inside.sum()),
                "generator": target.generator.description,
                "invertkit": __version__,
            },
            results=tuple(each.result for each in projected),
        )


def _named(inputs: Inputs, name: str) -> Inputs:
    """The inputs of a photograph among others."""
    return Inputs(inputs.values_by_name, inputs.specs, name)


def _classes(inputs: Inputs) -> list[str]:
    """The class of the image and of each reference."""
    if "classes" not in inputs:
        raise InputError(
            "classes: a projection wants the class of the image and of each reference, or one for "
            "all: `--input classes=tabby`."
        )
    classes, wanted = words_in(inputs["classes"]), 1 + len(inputs["references"])
    if len(classes) == 1:
        return classes * wanted
    if len(classes) != wanted:
        raise InputError(
            f"classes: one for all, or one for the image and each reference, {wanted} in all; got "
            f"{len(classes)}."
        )
    return classes


def _stacked(inputs: Inputs) -> Float[Tensor, "n h w"]:
    masks = inputs["masks"]
    return torch.cat([mask[0] for mask in masks])


def _check_overlap(masks: Float[Tensor, "n h w"]) -> None:
    share = float((masks.sum(0) > 1 + 1e-4).float().mean())
    if share > 0:
        raise InputError(
            f"masks: overlap on {share:.1%} of the picture, and a place takes the features of one. "
            "Cut one of them; holes are fine, and keep the image's own features."
        )


def _before(
    references: Sequence[Projected],
    masks: Float[Tensor, "n h w"],
    shifts: Sequence[tuple[float, float]],
) -> list[tuple[str, Float[Tensor, "_ _ _"]]]:
    """Each reference as its generator draws it, bright where it is taken from."""
    panels = []
    for number, (reference, mask, (right, down)) in enumerate(
        zip(references, masks, shifts, strict=True), start=1
    ):
        # What is moved to the mask lies where the mask is moved back.
        origin = moved(mask[None, None], (-right, -down))[0]
        picture = reference.inputs(mask.shape[-1]).reference
        assert picture is not None  # noqa: S101 # every case has its photograph
        shade = torch.nn.functional.interpolate(origin[None], picture.shape[-2:])[0]
        panels.append((f"reference {number}", picture[0] * (0.35 + 0.65 * shade)))
        panels.append((f"projection {number}", reference.drawn(reference.latents)[0]))
    return panels

"""Label collaging of a photograph: another class here, its own there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Final, Literal, final

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
from invertkit.core.images.kinds import words_in
from invertkit.core.images.load import Fit
from invertkit.core.images.save import to_picture
from invertkit.core.ranges import NonNegative
from invertkit.core.suggestions import conjoined
from invertkit.core.version import __version__
from invertkit.errors import InputError
from invertkit.models.classifiers.class_names import class_place
from invertkit.models.generators.class_weights import (
    SOFTEN,
    soften,
    weights_of_labels,
    weights_of_masks,
)
from invertkit.models.generators.collage import class_layers, collaged
from invertkit.models.generators.generator import Generator
from invertkit.models.generators.layer_choice import LayerChoice, LayerWord, layer_strengths

_SHOWN: Final = (("school bus", "lakeside"), ("tabby", "lion"), ("cat", "dog"))
"""What a demonstration shows, where the generator has both classes."""

Share = Annotated[float, Ge(0), Le(1)]


@final
class Collage(Finish):
    """Other classes in a projected photograph, where a map or masks want them.

    The inputs are `image`; `classes`, the photograph's own first; and either `layout`, a label map
    whose numbers count `classes` from 0, or `masks`, one for each class after the first. Places
    that no mask covers keep the photograph's own class; masks that overlap are refused.

    Args:
        layers: Which layers the map reaches: `all`, `first`, `early`, `late`, numbers, or a
            strength by number. Early ones change shapes, late ones textures.
        strength: How far the classes go, in [0, 1]; or several, for a sweep with an animation.
        soften: Deviation of the Gaussian over the map, as a share of its side.
        numbers: What the numbers of a layout count: `listed`, the names in `classes`; or
            `generator`, the generator's own classes.
        mixed: Keep the photograph's own gradients where they are the larger ones.
        size: Largest side of the blended pictures.
        model: The generator, in `models`.

    Raises:
        InputError: A strength is not in [0, 1].

    Example:
        >>> Collage(layers="late", strength=[0, 0.5, 1]).strengths
        (0.0, 0.5, 1.0)

    Source: Suzuki et al. 2018, §3.1 and §5; softened as in the released demonstration, blended by
    Pérez et al. 2003.
    """

    noun: ClassVar[str] = "collage"

    def __init__(
        self,
        *,
        layers: LayerWord | list[int] | dict[int, Share] = "all",
        strength: Share | list[Share] = 1.0,
        soften: NonNegative = SOFTEN,
        numbers: Literal["listed", "generator"] = "listed",
        mixed: bool = False,
        size: int = 512,
        model: str = "generator",
    ) -> None:
        self.layers: LayerChoice = layers
        self.strengths = chosen_strengths(strength)
        self.soften, self.numbers = soften, numbers
        self.mixed, self.size, self.model = mixed, size, model

    # ------------------------------------------------------------------ what it is given

    def check(self, inputs: Inputs, generator: Generator, fit: Fit) -> None:
        layers = class_layers(generator)
        layer_strengths(self.layers, [min(layer.shape) for layer in layers])
        for name in self._classes(inputs):
            generator.label(name)
        self._weights(fitted(inputs, self.size, fit), generator)

    def _classes(self, inputs: Inputs) -> list[str]:
        """The names that were given, the photograph's own first."""
        if inputs.reference is None:
            raise InputError("image: a collage is made in a photograph; give one.")
        if "classes" not in inputs:
            raise InputError(
                "classes: a collage wants the names of classes, the photograph's own first: "
                "`--input classes=tabby,lion`."
            )
        return words_in(inputs["classes"])

    def _weights(
        self, inputs: Inputs, generator: Generator
    ) -> tuple[Float[Tensor, "1 k h w"], list[int]]:
        """Weights of the own class and of others, and the numbers of these others."""
        labels = [generator.label(name) for name in self._classes(inputs)]
        layout, masks = inputs.find("layout"), inputs.get("masks")
        if (layout is None) == (masks is None):
            how = "both" if layout is not None else "neither"
            raise InputError(
                "layout: where each class shall be is told by a label map, `--input "
                "layout=layout.png`, or by a mask for each class after the first, `--input "
                f"masks=lion.png`; {how} was given."
            )
        if layout is not None:
            return self._of_layout(layout, labels, generator)
        assert isinstance(masks, tuple)  # noqa: S101 # as its kind loads it
        if len(masks) != len(labels) - 1:
            raise InputError(
                f"masks: {len(masks)} were given for {len(labels)} classes; give one for each "
                "class after the first, which is the photograph's own."
            )
        return weights_of_masks(masks), labels[1:]

    def _of_layout(
        self, layout: Tensor, labels: list[int], generator: Generator
    ) -> tuple[Float[Tensor, "1 k h w"], list[int]]:
        """Weights by a label map."""
        names = [generator.classes[label] for label in labels]
        if self.numbers == "listed":
            return weights_of_labels(layout, names), labels[1:]
        whole = weights_of_labels(layout, generator.classes)
        own = labels[0]
        others = [int(each) for each in layout.unique() if int(each) != own]
        return whole[:, [own, *others]], others

    def demonstration(self, generator: Generator) -> dict[str, Any]:
        class_layers(generator)
        own, other = self._shown(generator)
        _, picture = sample(generator, own, seed=1)
        height, width = picture.shape[-2:]
        layout = torch.zeros(height, width, dtype=torch.int64)
        layout[:, width // 2 :] = 1
        names = [generator.classes[own], generator.classes[other]]
        return {"image": to_picture(picture), "layout": layout, "classes": names}

    def _shown(self, generator: Generator) -> tuple[int, int]:
        """The class of the demonstration and the one it is taken to."""
        for pair in _SHOWN:
            places = [class_place(name, generator.classes) for name in pair]
            if None not in places:
                return generator.label(pair[0]), generator.label(pair[1])
        return alike_classes(generator)

    # ------------------------------------------------------------------ what it makes

    def made(self, projected: Sequence[Projected]) -> Finished:
        (done,) = projected
        inputs, generator = done.inputs(self.size), done.generator
        assert inputs.reference is not None  # noqa: S101 # by `check`
        weights, others = self._weights(inputs, generator)
        pictures = torch.cat(
            [
                done.drawn(
                    collaged(
                        generator,
                        done.latents,
                        weights,
                        others,
                        layers=self.layers,
                        strength=strength,
                        softened_by=self.soften,
                    )
                )
                for strength in self.strengths
            ]
        )
        photograph = inputs.reference[0]
        changed = 1 - soften(weights, self.soften)[0, :1]
        images, inside = joined_to(photograph, pictures, changed, mixed=self.mixed)
        names = [generator.classes[label] for label in others]
        words = f"{self._classes(inputs)[0]} -> {conjoined(names)}, layers {_said(self.layers)}"
        return Finished(
            images=images,
            generated=pictures,
            strengths=self.strengths,
            before=[
                ("source", photograph),
                (f"map: {', '.join(names)}", _drawn_map(photograph, weights[0])),
                ("projection", done.drawn(done.latents)[0]),
            ],
            noun=self.noun,
            words=words,
            region=inside,
            facts={
                "finish": "collage",
                "classes": [self._classes(inputs)[0], *names],
                "layers": _said(self.layers),
                "strengths": list(self.strengths),
                "soften": self.soften,
                "changed_pixels": int(inside.sum()),
                "generator": generator.description,
                "invertkit": __version__,
            },
            results=(done.result,),
        )


def _said(layers: LayerChoice) -> str:
    return layers if isinstance(layers, str) else str(layers)


def _drawn_map(
    photograph: Float[Tensor, "3 h w"], weights: Float[Tensor, "k h w"]
) -> Float[Tensor, "3 h w"]:
    """The photograph in grey, each other class in a colour of its own."""
    grey = photograph.mean(0, keepdim=True).expand(3, -1, -1)
    numbers = torch.arange(1, len(weights), dtype=torch.float32)
    thirds = torch.tensor([0.0, 1 / 3, 2 / 3])
    # Hues a golden section apart: neighbours in the list differ clearly.
    colours = 0.5 + 0.5 * torch.cos(2 * torch.pi * (numbers[:, None] * 0.618034 + thirds))
    painted = torch.einsum("khw,kc->chw", weights[1:], colours)
    return grey * (1 - 0.6 * weights[1:].sum(0)) + 0.6 * painted

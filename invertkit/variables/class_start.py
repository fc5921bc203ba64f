"""Where class embeddings begin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, final

import torch
from jaxtyping import Float
from torch import Tensor

from invertkit.core.images.resize import resize_image
from invertkit.core.network import Network
from invertkit.core.params import Params
from invertkit.core.randomness import Randomness
from invertkit.core.scene import LOGITS, Scene
from invertkit.errors import InputError, TapError
from invertkit.models.classifiers.class_names import class_place
from invertkit.models.generators.generator import Generator

Embedding = Literal["given", "predicted", "random", "gaussian"]


@final
@dataclass(frozen=True)
class ClassStart:
    """The start of a generator's class embeddings, all at the same class.

    Args:
        generator: Whose they are.
        embedding: The class `given` by `label`, the one `predicted` by the classifier from the
            reference's object, a `random` class, or `gaussian` numbers with the table's moments.
        label: By name or number.
        classifier: That predicts; None where nothing has to be predicted.
    """

    generator: Generator
    embedding: Embedding
    label: str | int | None = None
    classifier: Network | None = None

    def rows(
        self,
        scene: Scene,
        reference: Float[Tensor, "#b 3 h w"] | None,
        mask: Float[Tensor, "#b 1 h w"] | None,
        randomness: Randomness,
        labels: Sequence[str | int] = (),
    ) -> Params:
        """A row for each image, by name.

        Args:
            scene: Keeps what was predicted, for every population of the stage.
            reference: What the classifier looks at.
            mask: Where the object is in it.
            randomness: Of the images.
            labels: Classes, one for all or for each image, instead of `label`, for `given`.

        Raises:
            InputError: The class does not exist, or nothing can be predicted.
        """
        tables, count = self.generator.tables, len(randomness.seeds)
        if self.embedding == "gaussian":
            return self._gaussian(tables, randomness)
        if self.embedding == "random":
            draws = randomness.uniform("class", (1,))[:, 0]
            drawn = (draws * len(self.generator.classes)).long()
            return {name: table[drawn] for name, table in tables.items()}
        if self.embedding == "given":
            wanted = labels or ([] if self.label is None else [self.label])
            assert wanted  # noqa: S101 # by the variable that made this
            places = [self.generator.label(each) for each in wanted]
        else:
            # A population begins anew many times; the photograph does not change with it.
            key = ("label", id(self.classifier), id(self.generator))
            if key not in scene.kept:
                scene.kept[key] = self._predicted(reference, mask)
            places = scene.kept[key]
        return {
            name: table[places].expand(count, *table.shape[1:]).clone()
            for name, table in tables.items()
        }

    def _gaussian(self, tables: Mapping[str, Tensor], randomness: Randomness) -> Params:
        """Numbers with the mean and deviation that the table has over its classes."""
        rows: Params = {}
        for name, table in tables.items():
            purpose = f"embedding of {name}" if rows else "embedding"
            draws = randomness.normal(purpose, table.shape[1:]).to(table)
            deviation = table.std(0, correction=min(1, len(table) - 1))
            rows[name] = table.mean(0) + deviation * draws
        return rows

    def _predicted(self, reference: Tensor | None, mask: Tensor | None) -> list[int]:
        """The generator's class that the classifier sees in each reference's object."""
        classifier = self.classifier
        assert classifier is not None  # noqa: S101 # by the variable that made this
        if reference is None:
            raise InputError("`embedding: predicted` looks at a reference; give an image.")
        looks = []
        # Masks may differ where photographs do not, and the other way round.
        for row in range(max(len(reference), 1 if mask is None else len(mask))):
            image = reference[row : row + 1] if len(reference) > 1 else reference
            inside = mask if mask is None or len(mask) == 1 else mask[row : row + 1]
            look = image if inside is None else _around(image, inside)
            looks.append(resize_image(look, (classifier.size, classifier.size)))
        logits = classifier.observe(torch.cat(looks), (LOGITS,))[LOGITS]
        of_classifier, of_generator = self._shared(classifier, logits.shape[1])
        return [of_generator[place] for place in logits[:, of_classifier].argmax(1).tolist()]

    def _shared(self, classifier: Network, count: int) -> tuple[list[int], list[int]]:
        """The classes that both know, by their numbers in the classifier and in the generator.

        Names are the same in any case, and with spaces or underscores. Without names in common,
        as many classes are taken to be the same classes.
        """
        classes = self.generator.classes
        places = [class_place(name, classifier.classes) for name in classes]
        shared = sorted((i, j) for j, i in enumerate(places) if i is not None)
        if not shared and count == len(classes):
            shared = [(i, i) for i in range(count)]
        if not shared:
            raise InputError(
                "`embedding: predicted` needs a classifier that knows classes of the generator; "
                f"{classifier.description} knows none of them. Name the class, by `embedding: "
                "given` and `label: CLASS` of the variable `latent`."
            )
        return [i for i, _ in shared], [j for _, j in shared]


def classifier_of(models: Mapping[str, Any], name: str) -> Network:
    """The classifier that predicts.

    Raises:
        TapError: There is none of that name.
    """
    if name not in models:
        raise TapError(f"classifier: no classifier {name!r} in `models`.")
    classifier = models[name]
    if not isinstance(classifier, Network):
        raise TapError(f"classifier: {name!r} is no classifier.")
    return classifier


def _around(reference: Float[Tensor, "1 3 h w"], mask: Float[Tensor, "1 1 h w"]) -> Tensor:
    """The square around the object, so that a classifier sees it large."""
    rows, columns = (mask[0, 0] > 0.5).nonzero(as_tuple=True)
    if not len(rows):
        return reference
    top, bottom = int(rows.min()), int(rows.max()) + 1
    left, right = int(columns.min()), int(columns.max()) + 1
    height, width = reference.shape[-2:]
    side = min(round(max(bottom - top, right - left) * 1.2), height, width)
    top = min(max((top + bottom - side) // 2, 0), height - side)
    left = min(max((left + right - side) // 2, 0), width - side)
    return reference[..., top : top + side, left : left + side]

"""One classifier on a few photographs: gradients and their numbers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from invertkit.apps.gradients.input_gradient import input_gradient
from invertkit.apps.gradients.photographs import Photograph
from invertkit.apps.gradients.settings import GradientSettings
from invertkit.apps.gradients.table import InputGradient
from invertkit.errors import InputError
from invertkit.metrics.gradients import edge_alignment, low_frequency_share, orientation_agreement
from invertkit.models.classifiers.classifier import Classifier


def measure(
    name: str,
    classifier: Classifier,
    photographs: Sequence[Photograph],
    labels: Sequence[int | None],
    settings: GradientSettings,
) -> list[InputGradient]:
    """One classifier on a few photographs.

    Args:
        name: Label of the classifier.
        classifier: It.
        photographs: That end up with equal sizes.
        labels: Index of each photograph's class; None for the most likely one.
        settings: How.

    Raises:
        InputError: There is no such class, or a gradient is not finite.
    """
    images = _as_it_sees_them(classifier, photographs, settings)
    with torch.no_grad():
        logits = classifier(images)
    likely = logits.argmax(1)
    target = _targets(name, logits.shape[1], labels, likely)
    gradient, logits = input_gradient(classifier, images, target)
    bad = ~gradient.isfinite().flatten(1).all(1)
    if bad.any():
        raise InputError(
            f"{name}: its gradient on {photographs[int(bad.nonzero()[0])].name} is not finite. Its "
            "weights may be damaged, or made for images of another range."
        )
    columns = _numbers(images, gradient, logits, target, settings)
    return [
        InputGradient(
            photograph=photograph.name,
            classifier=name,
            class_name=classifier.classes[label] if label < len(classifier.classes) else str(label),
            label=label,
            predicted=int(likely[i]),
            **{key: column[i].item() for key, column in columns.items()},
            image=images[i].cpu().float() if photograph.shown else None,
            gradient=gradient[i].cpu() if photograph.shown else None,
        )
        for i, (photograph, label) in enumerate(zip(photographs, target.tolist(), strict=True))
    ]


def _numbers(
    images: Float[Tensor, "b 3 h w"],
    gradient: Float[Tensor, "b 3 h w"],
    logits: Float[Tensor, "b k"],
    target: Int[Tensor, " b"],
    settings: GradientSettings,
) -> dict[str, Float[Tensor, " b"]]:
    """What is told of every gradient, by the names that `InputGradient` has for it."""
    scores = logits.double().log_softmax(1).gather(1, target[:, None])[:, 0]
    return {
        "probability": scores.exp(),
        "loss": -scores,
        "norm": gradient.double().flatten(1).norm(dim=1),
        "alignment": edge_alignment(gradient, images, blur=settings.blur),
        "orientation": orientation_agreement(gradient, images, blur=settings.blur),
        "low_frequency": low_frequency_share(gradient, cutoff=settings.cutoff),
    }


def _as_it_sees_them(
    classifier: Classifier, photographs: Sequence[Photograph], settings: GradientSettings
) -> Float[Tensor, "b 3 h w"]:
    like = next(classifier.parameters(), torch.zeros(()))
    side = settings.size_for(classifier.size)
    return torch.cat([each.fitted(side, settings.fit) for each in photographs]).to(like)


def _targets(
    name: str,
    count: int,
    labels: Sequence[int | None],
    likely: Int[Tensor, " b"],
) -> Int[Tensor, " b"]:
    """The class of each photograph, each checked to be one of so many."""
    for label in labels:
        if label is not None and not 0 <= label < count:
            raise InputError(
                f"class {label}: {name} has {count} classes; expected a number from 0 to "
                f"{count - 1}."
            )
    chosen = [
        int(best) if label is None else label for best, label in zip(likely, labels, strict=True)
    ]
    return torch.tensor(chosen, device=likely.device)

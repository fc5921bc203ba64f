"""The gradient of a classifier's loss with respect to the image that it sees."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


def input_gradient(
    classifier: nn.Module, images: Float[Tensor, "b 3 h w"], labels: Int[Tensor, " b"]
) -> tuple[Float[Tensor, "b 3 h w"], Float[Tensor, "b k"]]:
    """Gradient of each image's cross-entropy with respect to that image, and the logits.

    The slope of the loss at the logits is worked out in double precision and of unit size while it
    goes back through the network, so that a classifier that is nearly certain does not lose its
    small gradient to rounding.

    Args:
        classifier: From images in [0, 1] to logits.
        images: In [0, 1].
        labels: Index of the class of each.

    Returns:
        The gradient in double precision, and the logits.

    Example:
        >>> images = torch.rand(2, 3, 4, 4)
        >>> classifier = nn.Sequential(nn.Flatten(), nn.Linear(48, 10))
        >>> gradient, logits = input_gradient(classifier, images, torch.tensor([3, 5]))
        >>> gradient.shape, gradient.dtype, logits.shape
        (torch.Size([2, 3, 4, 4]), torch.float64, torch.Size([2, 10]))
    """
    images = images.detach().requires_grad_()
    with torch.enable_grad():
        logits: Tensor = classifier(images)
    # The slope of -log softmax at the label is softmax - 1 there. Written as minus the sum of the
    # others it keeps its digits where the label is nearly certain.
    slope = logits.detach().double().softmax(1)
    slope.scatter_(1, labels[:, None], 0)
    slope.scatter_(1, labels[:, None], -slope.sum(1, keepdim=True))
    scale = slope.abs().amax(1, keepdim=True)
    unit = slope / scale.clamp(min=torch.finfo(torch.float64).tiny)
    (gradient,) = torch.autograd.grad(logits, images, unit.to(logits))
    return gradient.double() * scale.reshape(-1, 1, 1, 1), logits.detach()

"""What every model of a recipe is, and what a view may ask of one that looks at images.

A recipe's `models` are frozen networks of two kinds. All of them say what they are (`Model`).
Those that look at images show their layers besides (`Network`): classifiers, perceptual networks,
and any network of yours. Generators, which make images, are models only.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from jaxtyping import Float
from torch import Tensor, nn

from invertkit.errors import TapError


class Model(nn.Module):
    """A network of a recipe, which says what it is.

    Args:
        description: What it is and where its weights came from, on one line; it stands in the log
            and in the report.
        size: Side in pixels of the images that it was made for.

    Example:
        >>> Model(description="a square of noise", size=32)
        Model(a square of noise)
    """

    def __init__(self, *, description: str, size: int) -> None:
        super().__init__()
        self.description = description
        self.size = size

    def __repr__(self) -> str:
        # A page of submodules is what PyTorch would print; `.net` and the like still do.
        return f"{type(self).__name__}({self.description})"


class StoresStatistics(Protocol):
    """A batch norm that keeps what its input was like in training: `nn.BatchNorm2d`, say.

    Attributes:
        running_mean: `(c,)`; None if it keeps none.
        running_var: `(c,)`.
        eps: What it adds to the variance.
    """

    running_mean: Tensor | None
    running_var: Tensor | None
    eps: float


class Network(Model, ABC):
    """A network that looks at images and shows its layers.

    A subclass needs `observe` and nothing else, if its layers are all in `default_layers`.

    Args:
        description: What it is and where its weights came from, on one line.
        size: Side in pixels of the images that it was made for; it may take others.
        classes: Names of its logits; empty if it has none, or they have no names.
        default_layers: The layers that `layers: default` means in a recipe, shallow to deep.

    Example:
        >>> import torch
        >>> class Brightness(Network):
        ...     def observe(self, image, layers):
        ...         return {"grey": image.mean(1, keepdim=True)}
        >>> net = Brightness(description="a mean of colours", default_layers=["grey"])
        >>> net.resolve(["default"])
        ('grey',)
        >>> net.observe(torch.ones(2, 3, 4, 4), ["grey"])["grey"].shape
        torch.Size([2, 1, 4, 4])
    """

    def __init__(
        self,
        *,
        description: str = "a network given from Python",
        size: int = 224,
        classes: Sequence[str] = (),
        default_layers: Sequence[str] = (),
    ) -> None:
        super().__init__(description=description, size=size)
        self.classes = tuple(classes)
        self.default_layers = tuple(default_layers)

    @abstractmethod
    def observe(
        self, image: Float[Tensor, "b 3 h w"], layers: Collection[str]
    ) -> Mapping[str, Tensor]:
        """Run the network once and show what some of its layers put out.

        Args:
            image: In [0, 1]; values outside pass through. The network normalises it itself.
            layers: Names of layers; `logits` for a classifier's logits, `(b, k)`.

        Returns:
            What each of them put out, by name, with one row an image: `(b, …)`. Layers that do not
            run on the way of this image may be lacking.

        Raises:
            TapError: A layer does not exist.
        """

    def resolve(self, layers: Sequence[str]) -> tuple[str, ...]:
        """Names of layers, each checked, with `default` replaced by `default_layers`.

        Raises:
            TapError: There is none of that name.
        """
        names = tuple(
            name
            for asked in layers
            for name in (self.default_layers if asked == "default" else (asked,))
        )
        for name in names:
            self.check_layer(name)
        return names

    def batch_norms(self) -> Mapping[str, StoresStatistics]:
        """Its batch-normalisation layers that keep running statistics, shallow to deep.

        Of those that run, `observe` shows the input as `NAME:input`. None by default.
        """
        return {}

    prefix_tokens: int | None = None
    """Of a transformer: how many tokens come before those of the patches, if that is known."""

    def channel_axis(self, layer: str) -> int | None:
        """The axis of the channels in what a layer puts out, or in its input.

        None, the default, where the network does not know; then it is told by the shape.
        """
        return None

    def check_layer(self, name: str) -> None:
        """Complain of a layer that `observe` could not show; by default, all but `default_layers`.

        Raises:
            TapError: There is none of that name.
        """
        if name not in self.default_layers:
            known = ", ".join(self.default_layers) or "none"
            raise TapError(f"{self.description} has no layer {name!r}; it has: {known}.")

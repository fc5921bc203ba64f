"""A frozen classifier that shows its layers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, cast, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from invertkit.core.network import Network, StoresStatistics
from invertkit.core.pixel_space import IMAGENET_MEAN, IMAGENET_STD, per_channel
from invertkit.core.scene import LOGITS
from invertkit.core.suggestions import did_you_mean
from invertkit.errors import InputError, InvertkitError, RecipeError, TapError
from invertkit.models.classifiers.ready import (
    COMPLAINTS,
    dtype_of,
    first_line,
    ready,
    sees_grey,
    stores_statistics,
)
from invertkit.models.classifiers.taps import Show, Taps, run_watched, tensor_of
from invertkit.models.folding.folding import Folding

_LUMA: Final = (0.299, 0.587, 0.114)
"""What each colour counts in a grey picture, as in Pillow: ITU-R 601."""


@final
class Classifier(Network):
    """A network with its own normalisation, frozen, in evaluation mode.

    Images in [0, 1] go in; `observe` gives the logits, any layers, or both, in one forward that
    stops after the last layer asked for. Weights take no gradient. The network may compute in other
    numbers than those of the image, of half or double precision, which is cast for it; may see grey
    only; and where it or a layer gives more than a tensor, `tensor_of` says which counts.

    Args:
        net: Any module from `(b, 3, h, w)`, or `(b, 1, h, w)`, normalised, to `(b, k)` logits. It
            is changed; see `ready`.
        mean: Per channel, subtracted from the image; one number for a network that sees grey.
        std: Per channel, divides the difference.
        classes: Names of the logits, if known.
        description: What it is and where its weights came from; said aloud and in the report.
        default_layers: Layers that `layers: default` means in a recipe, shallow to deep.
        size: Side of the images it was trained on, for whoever asks it what a picture shows.
        fold: Let `observe` run the network with less work: batch norms joined to the convolutions
            before them, where nobody looks between, and weights in the layout that is fastest.
            False where the bits must be those of `forward`.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8 * 4 * 4, 2))
        >>> classifier = Classifier(net, classes=("cat", "dog"), description="two layers", size=6)
        >>> classifier
        Classifier(two layers)
        >>> seen = classifier.observe(torch.rand(5, 3, 6, 6), ["0", "logits"])
        >>> seen["0"].shape, seen["logits"].shape
        (torch.Size([5, 8, 4, 4]), torch.Size([5, 2]))
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        classes: Sequence[str] = (),
        description: str = "a module given from Python",
        default_layers: Sequence[str] = (),
        size: int = 224,
        fold: bool = True,
    ) -> None:
        super().__init__(
            description=description, size=size, classes=classes, default_layers=default_layers
        )
        self.net = ready(net)
        self.mean, self.std = tuple(mean), tuple(std)
        if len(self.mean) == 3 and sees_grey(net):
            self.mean, self.std = ((sum(each) / 3,) for each in (self.mean, self.std))
        tokens = getattr(net, "num_prefix_tokens", None)
        self.prefix_tokens = tokens if isinstance(tokens, int) else None
        self._folding = Folding(enabled=fold)
        self._taps = Taps()

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b ..."]:
        """What the network gives for images in [0, 1]: of a classifier the logits, `(b, k)`."""
        with self._folding.lock:
            return tensor_of(self._run(image), self.description).to(image.dtype)

    def _apply(self, fn: Any, recurse: bool = True) -> Classifier:  # noqa: FBT001, FBT002
        # `.to` puts other tensors behind the network's names, whose faster copies would be stale.
        self._folding.forget()
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def require_size(self, size: int, name: str) -> None:
        """Try one grey image of that side.

        Args:
            size: In pixels.
            name: What to call the classifier in a complaint.

        Raises:
            InputError: The network cannot take it.
        """
        like = next(self.parameters(), torch.empty(0))
        try:
            with torch.no_grad():
                self.net(self._given(like.new_full((1, 3, size, size), 0.5)))
        except torch.OutOfMemoryError:
            # It says nothing about the size that a network takes, only about this machine.
            raise
        except COMPLAINTS as error:
            raise InputError(
                f"size: {name} cannot take images of {size}×{size} ({first_line(error)}). It was "
                f"made for {self.size}×{self.size}."
            ) from None

    def normalized(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b _ h w"]:
        """The image as the network wants it; grey (ITU-R 601) if it wants one channel."""
        if len(self.mean) == 1:
            image = (image * per_channel(_LUMA, image)).sum(1, keepdim=True)
        return (image - per_channel(self.mean, image)) / per_channel(self.std, image)

    def _given(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b _ h w"]:
        """The image as the network wants it, in the numbers that it computes with."""
        return self.normalized(image).to(dtype_of(self.net) or image.dtype)

    def _run(self, image: Float[Tensor, "b 3 h w"]) -> Any:
        """What the network gives, a tensor or not; what it complains of, in a sentence."""
        try:
            return self.net(self._given(image))
        except (InvertkitError, torch.OutOfMemoryError):
            raise  # the one is a sentence, the other says nothing about the network
        except COMPLAINTS as error:
            height, width = image.shape[-2:]
            own = f"{self.size}×{self.size}"
            hint = f" It was made for {own}; if it takes no other size, give the stages that one."
            raise RecipeError(
                f"{self.description} fails on images of {height}×{width} ({first_line(error)})."
                f"{'' if height == width == self.size else hint}"
            ) from error

    def _example(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "_ _ h w"]:
        """Any tensor like those that the network is given."""
        dtype = dtype_of(self.net) or image.dtype
        if len(self.mean) == image.shape[1] and dtype == image.dtype:
            return image
        return image.new_empty((1, len(self.mean), *image.shape[-2:]), dtype=dtype)

    def observe(
        self, image: Float[Tensor, "b 3 h w"], layers: Collection[str]
    ) -> Mapping[str, Tensor]:
        """Run the network once, no further than needed.

        A layer shows what it put out, also where the network writes into that later (`out += x`),
        and the first time if it runs several times in one forward. What is shown may lie in memory
        channels last: `reshape` it, `view` may refuse.

        Args:
            image: In [0, 1]; values outside pass through.
            layers: Names of submodules (`layer1`), of their inputs (`bn1:input`), and `logits`.

        Raises:
            TapError: A layer does not exist.
        """
        wanted = frozenset(layers)
        modules = {name: self._tapped(name) for name in sorted(wanted - {LOGITS})}
        output = LOGITS if LOGITS in wanted or not modules else ""

        def run(show: Show) -> None:
            run_watched(modules, lambda: self._run(image), show, output=output)

        with self._folding.lent(self.net, self._example(image), wanted):
            return self._taps.look(run)

    def _tapped(self, name: str) -> nn.Module:
        """The module that a tap of that name looks at."""
        path = name.removesuffix(":input")
        module = self.net
        for part in path.split("."):
            if part not in module._modules or (child := module._modules[part]) is None:
                return self.layer(path)
            module = child
        return module

    def layer(self, name: str) -> nn.Module:
        """The submodule of that name.

        Raises:
            TapError: There is none; the message suggests names.
        """
        try:
            module = self.net.get_submodule(name)
        except AttributeError:
            module = self.net
        if module is self.net:  # not found, or no name at all
            known = dict(self.net.named_modules())
            hint = did_you_mean(name, known)
            tops = ", ".join(child for child, _ in self.net.named_children())
            raise TapError(
                f"{self.description} has no layer {name!r}.{hint} Its outermost layers are: {tops}."
            )
        return module

    def batch_norms(self) -> dict[str, StoresStatistics]:
        """Its batch norms that keep statistics, synchronised and frozen ones too.

        In the order in which the network holds them. Some may lie aside of the path of a forward.
        """
        return {
            name: cast(StoresStatistics, module)
            for name, module in self.net.named_modules()
            if name and stores_statistics(module)
        }

    def channel_axis(self, layer: str) -> int | None:
        """The axis of a layer's channels by its kind, or as timm says of the whole network."""
        kind = type(self._tapped(layer)) if layer != LOGITS else nn.Linear
        if kind in (nn.Linear, nn.LayerNorm, nn.MultiheadAttention):
            return -1
        if issubclass(kind, nn.Conv2d | nn.BatchNorm2d | nn.GroupNorm):
            return 1
        return -1 if str(getattr(self.net, "output_fmt", "")) == "NHWC" else None

    def check_layer(self, name: str) -> None:
        self.layer(name.removesuffix(":input"))

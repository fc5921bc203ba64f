"""A frozen classifier that shows its layers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from invertkit.core.network import Network
from invertkit.core.pixel_space import IMAGENET_MEAN, IMAGENET_STD, per_channel
from invertkit.core.scene import LOGITS
from invertkit.core.suggestions import did_you_mean
from invertkit.errors import InputError, TapError
from invertkit.models.classifiers.taps import Show, Taps, run_watched
from invertkit.models.folding.folding import Folding


@final
class Classifier(Network):
    """A network with its own normalisation, frozen, in evaluation mode.

    Images in [0, 1] go in; `observe` gives the logits, any layers, or both, in one forward that
    stops after the last layer asked for. Weights take no gradient.

    Args:
        net: Any module from `(b, 3, h, w)`, normalised, to `(b, k)` logits. It is changed: set to
            evaluation mode, frozen, and its in-place activations made to leave their input alone,
            so that a layer can be read after the next one has run.
        mean: Per channel, subtracted from the image.
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
        if not isinstance(net, nn.Module):
            raise InputError(f"A classifier wraps a torch.nn.Module, got {net!r:.60}.")
        self.net = _recordable(net).eval().requires_grad_(False)
        # A layer can then be shown after the next has run without being copied (`Taps`).
        for module in net.modules():
            if getattr(module, "inplace", None) is True:
                vars(module)["inplace"] = False
        self.mean, self.std = tuple(mean), tuple(std)
        self._folding = Folding(enabled=fold)
        self._taps = Taps()

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b ..."]:
        """What the network gives for images in [0, 1]: of a classifier the logits, `(b, k)`."""
        with self._folding.lock:
            logits: Tensor = self.net(self.normalized(image))
        return logits

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
                self(like.new_full((1, 3, size, size), 0.5))
        except torch.OutOfMemoryError:
            # It says nothing about the size that a network takes, only about this machine.
            raise
        except (RuntimeError, AssertionError, ValueError) as error:
            why = (str(error).strip().split("\n")[0] or type(error).__name__).rstrip(".")
            raise InputError(
                f"size: {name} cannot take images of {size}×{size} ({why}). It was made for "
                f"{self.size}×{self.size}."
            ) from None

    def normalized(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """The image as the network wants it."""
        return (image - per_channel(self.mean, image)) / per_channel(self.std, image)

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
            run_watched(modules, lambda: self.net(self.normalized(image)), show, output=output)

        with self._folding.lent(self.net, image, wanted):
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

    def batch_norms(self) -> dict[str, nn.BatchNorm2d]:
        """Its batch-normalisation layers that keep running statistics, in forward order."""
        return {
            name: module
            for name, module in self.net.named_modules()
            if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None
        }

    def check_layer(self, name: str) -> None:
        self.layer(name.removesuffix(":input"))


def _recordable(net: nn.Module) -> nn.Module:
    """The network, with weights through which gradients pass, also if `inference_mode` made it."""
    with torch.inference_mode(mode=False), torch.no_grad():
        for module in net.modules():
            for name, weight in module._parameters.items():
                if weight is not None and weight.is_inference():
                    module._parameters[name] = nn.Parameter(weight.clone(), requires_grad=False)
            for name, buffer in module._buffers.items():
                if buffer is not None and buffer.is_inference():
                    module._buffers[name] = buffer.clone()
    return net

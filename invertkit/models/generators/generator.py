"""A frozen generator: a network from named latents to pictures."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Self, final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from invertkit.core.network import Model
from invertkit.core.suggestions import conjoined, did_you_mean, listed
from invertkit.errors import InputError, TapError
from invertkit.models.classifiers.class_names import class_place
from invertkit.models.generators.class_maps import ClassMap, row_of
from invertkit.models.generators.latents import ClassEmbedding, Declared, LatentSpec, declared


@final
@dataclass(frozen=True)
class ObjectStatistics:
    """Where a generator puts its objects, as shares of the picture's height and width.

    Args:
        centre: Row and column of the mean centre.
        size: Most frequent height and width.

    Source: Huh et al. 2020, §3.3, measured there with an object detector on 10,000 samples.
    """

    centre: tuple[float, float] = (0.5, 0.5)
    size: tuple[float, float] = (0.8, 0.8)


BIGGAN_STATISTICS = ObjectStatistics((137 / 256, 127 / 256), (213 / 256, 210 / 256))
"""Of BigGAN-deep 256; the paper's text swaps the two labels."""


@final
class Generator(Model):
    """A network from latents to a picture; frozen, in evaluation mode.

    Args:
        net: Called with its latents in the order of `latents`, `(b, *shape)` each; gives
            `(b, 3, h, w)`. It is changed: set to evaluation mode, frozen, and its in-place
            activations made to leave their input alone.
        latents: What it takes, by name: a length, a shape, a `LatentSpec`, or a `ClassEmbedding`.
        size: Side of its pictures in pixels, or height and width; by default found by making one.
        output: Range of what the network puts out, black and white.
        statistics: Where its objects are.
        description: What it is and where its weights came from.
        feature_layer: Layer whose principal components make latent directions; by default its
            pictures.

    Raises:
        InputError: A latent is no latent, the network cannot be run on them, or it makes no
            pictures.

    Attributes:
        latents: The record of every latent by name, in the network's order; of a class embedding
            the shape alone, since it begins at a class.
        classes: Names of its classes; none without a class embedding.
        shape: Height and width of its pictures.
        size: The larger of both.
        like: A number of the type and on the device that its latents have.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Linear(5, 3 * 8 * 8), nn.Tanh(), nn.Unflatten(1, (3, 8, 8)))
        >>> generator = Generator(net, latents={"z": 5})
        >>> generator.size
        8
        >>> generator.generate(z=torch.zeros(2, 5)).shape
        torch.Size([2, 3, 8, 8])
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        latents: Mapping[str, Declared],
        size: int | tuple[int, int] | None = None,
        output: tuple[float, float] = (-1.0, 1.0),
        statistics: ObjectStatistics | None = None,
        description: str = "a generator given from Python",
        feature_layer: str = "",
    ) -> None:
        super().__init__(description=description, size=0)
        if not isinstance(net, nn.Module):
            raise InputError(f"A generator wraps a torch.nn.Module, got {net!r:.60}.")
        self.net = net.eval().requires_grad_(False)
        for module in net.modules():
            if hasattr(module, "inplace"):  # else a later layer would write on what a tap shows
                vars(module)["inplace"] = False
        low, high = (float(end) for end in output)
        if not low < high:
            raise InputError(f"output: expected the values of black and white, got {output}.")
        self.output = (low, high)
        self.statistics = statistics or ObjectStatistics()
        self.feature_layer = feature_layer
        self.like = next(net.parameters(), torch.zeros(())).detach().new_zeros(())
        self._declared = declared(latents)
        self._move_declared(lambda tensor: tensor.detach().to(self.like))
        self.classes = self._class_names()
        measured = self._measured() if size is None else size
        self.shape = (measured, measured) if isinstance(measured, int) else measured
        self.size = max(self.shape)

    def _move_declared(self, move: Callable[[Tensor], Tensor]) -> None:
        """Bring the declaration's tensors to where the network is."""
        self._declared = {name: spec.moved(move) for name, spec in self._declared.items()}
        tables = self.tables
        self.latents = {
            name: spec
            if isinstance(spec, LatentSpec)
            else LatentSpec(tuple(tables[name].shape[1:]))
            for name, spec in self._declared.items()
        }

    # Not buffers: means and tables are part of the declaration, and no entry of a weight file.
    def _apply(self, fn: Any, recurse: bool = True) -> Self:  # noqa: FBT001, FBT002
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.like = fn(self.like)
        self._move_declared(fn)
        return self

    def _class_names(self) -> tuple[str, ...]:
        counts = {name: len(table) for name, table in self.tables.items()}
        if len(set(counts.values())) > 1:
            raise InputError(f"The class embeddings of a generator know the same classes: {counts}")
        count = next(iter(counts.values()), 0)
        given = [self._declared[name].names for name in counts]  # type: ignore[union-attr]
        names = next((tuple(each) for each in given if each), tuple(map(str, range(count))))
        if len(names) != count:
            raise InputError(
                f"This generator has {count} classes; it was given {len(names)} names."
            )
        return names

    def _measured(self) -> tuple[int, int]:
        """Height and width of a picture of the network."""
        kind = type(self.net).__name__
        called = ", ".join(f"{name} {(1, *s.shape)}" for name, s in self.latents.items())
        tables = self.tables
        middle = [
            tables[name][:1] if name in tables else spec.placed(self.like.new_zeros(1, *spec.shape))
            for name, spec in self.latents.items()
        ]
        try:  # forked, since a network that draws noise would move the global generator
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                picture = self.net(*middle)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # of a network that anybody may have written
            why = (str(error).strip().split("\n")[0] or type(error).__name__).rstrip(".")
            raise InputError(f"latents: {kind} cannot be run on {called}: {why}.") from None
        if isinstance(picture, Tensor) and picture.ndim == 4 and picture.shape[:2] == (1, 3):
            return picture.shape[2], picture.shape[3]
        instead = tuple(picture.shape) if isinstance(picture, Tensor) else type(picture).__name__
        raise InputError(
            f"A generator makes pictures (b, 3, h, w); {kind} makes {instead} of {called}."
        )

    def __repr__(self) -> str:
        taken = ", ".join(f"{name} {spec.shape}" for name, spec in self.latents.items())
        return f"Generator({taken} → {self.shape[0]}×{self.shape[1]}: {self.description})"

    # ------------------------------------------------------------------ what it takes

    @property
    def tables(self) -> dict[str, Float[Tensor, "_ ..."]]:
        """Of every class embedding, the row of each class."""
        return {
            name: spec.rows(self.net)
            for name, spec in self._declared.items()
            if isinstance(spec, ClassEmbedding)
        }

    @property
    def leading(self) -> str:
        """The latent that edits move: the first that is no class embedding.

        Raises:
            InputError: It has class embeddings alone.
        """
        for name, spec in self._declared.items():
            if isinstance(spec, LatentSpec):
                return name
        raise InputError(f"{self.description} takes nothing but a class, so nothing can be moved.")

    def label(self, name: str | int) -> int:
        """The index of a class given by number, or by name in any case, `Persian cat` or so.

        Raises:
            InputError: There is none.
        """
        if not self.classes:
            raise InputError(
                f"{self.description} has no class embedding, so there is no class {name!r} of it."
            )
        if isinstance(name, str) and (place := class_place(name, self.classes)) is not None:
            return place
        if str(name).isdecimal() and int(name) < len(self.classes):
            return int(name)
        hint = did_you_mean(name, self.classes)
        shown = listed(self.classes)
        raise InputError(
            f"Unknown class {name!r} of {self.description}.{hint} It has {len(self.classes)}: "
            f"{shown}."
        )

    # ------------------------------------------------------------------ what it makes

    def generate(self, /, **latents: Float[Tensor, "b ..."] | ClassMap) -> Float[Tensor, "b 3 h w"]:
        """Pictures in [0, 1], as far as the network keeps to its range.

        Args:
            latents: Every latent by its name, `(b, *shape)`; in place of a class embedding, if the
                network takes them, a map of several classes.

        Raises:
            InputError: The names are not those of the latents.
        """
        return self._unit(self.net(*self._ordered(latents)))

    def generate_with(
        self, change: Float[Tensor, "b p"], /, **latents: Float[Tensor, "b ..."] | ClassMap
    ) -> Float[Tensor, "b 3 h w"]:
        """Pictures of the network with its weights changed, by another row for each picture.

        Args:
            change: What is added to the weights that `tunable` names, end to end.
            latents: As for `generate`.

        Raises:
            InputError: The names are not those of the latents.
        """
        pictures = []
        names = self.tunable()
        weights = dict(self.net.named_parameters())
        ordered = self._ordered(latents)
        for index, row in enumerate(change):
            parts = row.split([weights[name].numel() for name in names])
            changed = {
                name: weights[name] + part.reshape(weights[name].shape)
                for name, part in zip(names, parts, strict=True)
            }
            # Weights differ from picture to picture, so each picture is a call of its own.
            inputs = tuple(row_of(latent, index) for latent in ordered)
            pictures.append(functional_call(self.net, changed, inputs))
        return self._unit(torch.cat(pictures))

    def features(
        self, layers: Collection[str], /, **latents: Float[Tensor, "b ..."] | ClassMap
    ) -> Mapping[str, Tensor]:
        """What the layers of those names put out while a picture is made; `""` is the network.

        Raises:
            TapError: A layer does not exist.
        """
        outputs: dict[str, Tensor] = {}

        def keep(module: nn.Module, inputs: Any, output: Tensor, *, name: str) -> None:
            outputs[name] = output

        hooks = []
        try:
            for name in layers:
                try:
                    module = self.net.get_submodule(name)
                except AttributeError:
                    raise TapError(f"{self.description} has no layer {name!r}.") from None
                hooks.append(module.register_forward_hook(partial(keep, name=name)))
            self.net(*self._ordered(latents))
        finally:
            for hook in hooks:
                hook.remove()
        return outputs

    def _ordered(self, latents: Mapping[str, Tensor | ClassMap]) -> list[Any]:
        if latents.keys() != self._declared.keys():
            raise InputError(
                f"{self.description} takes {conjoined(list(self._declared))}; "
                f"got {conjoined(list(latents)) or 'nothing'}."
            )
        return [latents[name] for name in self._declared]

    def _unit(self, picture: Tensor) -> Tensor:
        low, high = self.output
        return picture / (high - low) + -low / (high - low)

    # ------------------------------------------------------------------ its weights

    def tunable(self) -> list[str]:
        """Names of the weights that fine-tuning changes: all but class embeddings."""
        tables = tuple(
            f"{spec.table}."
            for spec in self._declared.values()
            if isinstance(spec, ClassEmbedding) and isinstance(spec.table, str)
        )
        return [name for name, _ in self.net.named_parameters() if not name.startswith(tables)]

    def tunable_size(self) -> int:
        """How many numbers they hold."""
        weights = dict(self.net.named_parameters())
        return sum(weights[name].numel() for name in self.tunable())

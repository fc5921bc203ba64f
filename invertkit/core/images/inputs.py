"""What a run is given, by name, at full size and at a stage's."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from invertkit.core.images.kinds import KINDS, InputKind, Size, Value, own_size, single
from invertkit.core.images.load import Fit
from invertkit.core.images.specs import COVERING, SHORT, InputSpec, lead
from invertkit.core.images.turned import check_turned
from invertkit.core.suggestions import conjoined, did_you_mean
from invertkit.errors import InputError, InvertkitError


@final
@dataclass(frozen=True, eq=False)
class Inputs(Mapping[str, Value]):
    """Photographs, masks and whatever else a recipe asks for, by name.

    Args:
        values_by_name: Of the inputs that are given: images `(1, 3, h, w)` in [0, 1], masks
            `(1, 1, h, w)`, and so on by kind; in a stage's scene, one row an image where there are
            several.
        specs: What each of the recipe's inputs is.
        name: What to call the photograph among others.

    Raises:
        InputError: A mask or label map has not the size of its image.

    Example:
        >>> import torch
        >>> inputs = Inputs.of({"image": torch.zeros(1, 3, 32, 48)})
        >>> inputs.size(16, "keep"), inputs.at((16, 16), "stretch")["image"].shape
        ((13, 20), torch.Size([1, 3, 16, 16]))
    """

    values_by_name: Mapping[str, Value] = field(default_factory=dict)
    specs: Mapping[str, InputSpec] = field(default_factory=dict)
    name: str = ""

    @classmethod
    def of(cls, values: Mapping[str, Value | None], name: str = "") -> Inputs:
        """Inputs of the names that a page's short list may have: a photograph and its masks."""
        given = {key: value for key, value in values.items() if value is not None}
        return cls(given, {key: SHORT[key] for key in given}, name)

    def __post_init__(self) -> None:
        for name, value in self.values_by_name.items():
            spec = self.specs[name]
            image = self.values_by_name.get(spec.of)
            if spec.kind not in COVERING or image is None:
                continue
            height, width = single(image).shape[-2:]
            for layer in (value,) if isinstance(value, Tensor) else value:
                tall, wide = layer.shape[-2:]
                if (tall, wide) == (height, width):
                    continue
                what = "A label map" if spec.kind == "labels" else "A mask"
                raise InputError(
                    f"{name}: is {wide}×{tall} pixels, the {spec.of} is {width}×{height}. {what} "
                    f"covers its image pixel by pixel; resize it to {width}×{height}."
                )

    def __repr__(self) -> str:
        # Pixels would fill pages.
        name = f"{self.name!r}: " if self.name else ""
        return f"<Inputs {name}{', '.join(map(self._described, self)) or 'none'}>"

    def _described(self, name: str) -> str:
        value = self[name]
        if not isinstance(value, Tensor):
            return f"{name} ({len(value)} images)"
        return f"{name} {'×'.join(map(str, value.shape)) or 'a number'}"

    def __getitem__(self, name: str) -> Value:
        return self.values_by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.values_by_name)

    def __len__(self) -> int:
        return len(self.values_by_name)

    def find(self, name: str) -> Tensor | None:
        """The input of that name, None if it is not given.

        Raises:
            InputError: It is several images.
        """
        value = self.values_by_name.get(name)
        return None if value is None else single(value)

    def need(self, name: str, *, who: str = "") -> Tensor:
        """The input of that name.

        Args:
            name: Of the input.
            who: The part that asks, for the message.

        Raises:
            InputError: It is not given.
        """
        value = self.find(name)
        if value is None:
            asks = f"`{who}` needs the input {name!r}, and this run" if who else "This run"
            known = conjoined(list(self)) or "none"
            raise InputError(f"{asks} has no input {name!r}; it has: {known}.")
        return value

    @property
    def lead(self) -> str:
        """Name of the first image, with which results are compared; empty if there is none."""
        return lead({name: spec for name, spec in self.specs.items() if name in self})

    @property
    def reference(self) -> Float[Tensor, "#b 3 h w"] | None:
        """The first image, with which results are compared; None if there is none."""
        return self.find(self.lead) if self.lead else None

    # ------------------------------------------------------------------ sizes

    def size(self, side: int, fit: Fit) -> Size:
        """Height and width of a stage of `side` pixels.

        With `keep`, the shape of the first image and as many pixels as `side`×`side`.
        """
        if self.reference is None:
            return side, side
        height, width = self.reference.shape[-2:]
        return own_size((height, width), (side, side), fit)

    def at(self, size: Size, fit: Fit) -> Inputs:
        """The same at a stage's size: images bilinear, masks by area, labels by the nearest pixel.

        The first image and what covers it have that size; others keep their own shape, if `fit`
        keeps shapes, with as many pixels.
        """
        return self._with({name: self.fitted(name, size, fit) for name in self})

    def fitted(self, name: str, size: Size, fit: Fit) -> Value:
        """One of them at a stage's size."""
        return self._kind(name).fit(self[name], self._size_of(name, size, fit), fit)

    def shapes(self, size: Size, fit: Fit) -> tuple[tuple[str, Hashable], ...]:
        """Names and shapes at a stage's size: photographs that can share a batch have equal ones.

        Computed without touching a pixel.
        """
        return tuple(
            (name, self._kind(name).shape(value, self._size_of(name, size, fit), fit))
            for name, value in self.items()
        )

    def _size_of(self, name: str, size: Size, fit: Fit) -> Size:
        """The size of an input at a stage of that size."""
        spec = self.specs[name]
        image = spec.of if spec.kind in COVERING else name
        if image in ("", self.lead) or image not in self or self.specs[image].kind != "image":
            return size
        height, width = single(self[image]).shape[-2:]
        return own_size((height, width), size, fit)

    def map(self, change: Callable[[Tensor], Tensor]) -> Inputs:
        """The same with every tensor changed."""
        return self._with(
            {
                name: change(value) if isinstance(value, Tensor) else tuple(map(change, value))
                for name, value in self.items()
            }
        )

    def replaced(self, values: Mapping[str, Value]) -> Inputs:
        """The same with some values replaced."""
        return self._with({**self.values_by_name, **values})

    def _with(self, values: Mapping[str, Value]) -> Inputs:
        return replace(self, values_by_name=values)

    def _kind(self, name: str) -> InputKind:
        return KINDS[self.specs[name].kind]

    # ------------------------------------------------------------------ keeping and showing

    def shown(self) -> list[tuple[str, Float[Tensor, "_ _ _"]]]:
        """Pictures of the inputs with their names; the first image is called `source`."""
        return [
            ("source" if name == self.lead else name, picture)
            for name, value in self.items()
            for picture in self._kind(name).shown(value)
        ]

    def save(self) -> dict[str, Any]:
        """All of it, for `load`; what came from 8 bits goes back to them."""
        return {
            "values": {name: self._kind(name).pack(value) for name, value in self.items()},
            "specs": {name: asdict(spec) for name, spec in self.specs.items()},
            "name": self.name,
        }

    @classmethod
    def load(cls, saved: Mapping[str, Any]) -> Inputs:
        """What `save` saw, bit for bit."""
        specs = {name: InputSpec(**spec) for name, spec in saved["specs"].items()}
        values = {
            name: KINDS[specs[name].kind].unpack(packed) for name, packed in saved["values"].items()
        }
        return cls(values, specs, saved["name"])


def joined(several: Sequence[Inputs]) -> Inputs:
    """One row for each photograph, of inputs that have equal names and shapes."""
    first = several[0]
    if len(several) == 1:
        return first

    def rows(name: str) -> Value:
        values = [each[name] for each in several]
        if all(isinstance(value, Tensor) for value in values):
            return torch.cat([single(value) for value in values])
        return tuple(torch.cat(images) for images in zip(*values, strict=True))

    return first.replaced({name: rows(name) for name in first})


def load_inputs(
    given: Mapping[str, Any], specs: Mapping[str, InputSpec], *, recipe: str = "", name: str = ""
) -> Inputs:
    """Read what a user gave for a recipe's inputs.

    Args:
        given: By name: paths, pictures, arrays, tensors; None stands for nothing.
        specs: The recipe's inputs.
        recipe: Its name, for messages.
        name: What to call the photograph among others.

    Raises:
        InputError: A name is unknown, an input is lacking or cannot be used; where the photograph
            has a name, the message begins with it.
        ShapeError: An array or tensor has another shape or type.
    """
    given = {key: value for key, value in given.items() if value is not None}
    check_names(given, specs, recipe=recipe)
    try:
        values = {
            key: KINDS[spec.kind].load(given[key], who=key)
            for key, spec in specs.items()
            if key in given
        }
        check_turned(given, values, specs)
        return Inputs(values, specs, name)
    except InvertkitError as error:
        if not name:
            raise
        raise type(error)(f"{name}: {error}") from None


def check_names(names: Mapping[str, Any], specs: Mapping[str, InputSpec], *, recipe: str) -> None:
    """Whether a recipe has inputs of these names.

    Raises:
        InputError: It has not; the message suggests one.
    """
    for name in names:
        if name not in specs:
            known = conjoined(list(specs)) or "none"
            whose = f"recipe {recipe!r}" if recipe else "this recipe"
            raise InputError(
                f"{name}: {whose} has no such input.{did_you_mean(name, specs)} Its inputs: "
                f"{known}."
            )

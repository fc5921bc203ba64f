"""The kinds of inputs: how each is read, brought to a stage's size, kept and shown.

A new kind is a class here and its word in `invertkit.core.images.specs`; nothing else knows it.
"""

from __future__ import annotations

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path, PurePath
from types import MappingProxyType
from typing import Any, ClassVar, Final, TypeAlias, final

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from invertkit.core.images.crop import central_square
from invertkit.core.images.folder import is_picture, pictures_in
from invertkit.core.images.load import Fit, load_image
from invertkit.core.images.load_tensors import ARRAYS, load_array, load_labels
from invertkit.core.images.masks import load_mask
from invertkit.core.images.resize import resize_image, resize_mask
from invertkit.core.images.specs import KindWord
from invertkit.errors import InputError

Value: TypeAlias = Tensor | tuple[Tensor, ...]
"""One input: a tensor with a row for all images, or one for each; several images as a tuple."""

Size: TypeAlias = tuple[int, int]


class InputKind(ABC):
    """How inputs of one kind are read, brought to a stage's size, kept and shown."""

    endings: ClassVar[tuple[str, ...]] = ()
    """Of its files beside those of pictures."""

    pictures: ClassVar[bool] = True
    """Whether its files may be pictures."""

    @property
    def noun(self) -> str:
        """What a file of it is called in messages."""
        return "picture" if self.pictures else "file"

    def reads(self, file: PurePath) -> bool:
        """Whether a file may be one of this kind, by its ending."""
        return file.suffix.lower() in self.endings or (self.pictures and is_picture(file))

    @abstractmethod
    def load(self, source: Any, *, who: str) -> Value:
        """From whatever the user has; `who` is its name, for messages."""

    def fit(self, value: Value, size: Size, fit: Fit) -> Value:
        """At a stage's size; what has no pixels stays as it is."""
        return value

    def shape(self, value: Value, size: Size, fit: Fit) -> Hashable:
        """What the shape of `fit` will be, without touching a pixel."""
        tensors = (value,) if isinstance(value, Tensor) else value
        return tuple(tuple(tensor.shape) for tensor in tensors)

    def pack(self, value: Value) -> Any:
        """For a checkpoint: tensors, lists and tuples."""
        return value

    def unpack(self, packed: Any) -> Value:
        """What `pack` saw, bit for bit."""
        value: Value = packed
        return value

    def shown(self, value: Value) -> list[Float[Tensor, "_ _ _"]]:
        """Pictures of it for a sheet, in [0, 1]."""
        return []


class PictureKind(InputKind):
    """One picture: it takes the size that it is told."""

    def shape(self, value: Value, size: Size, fit: Fit) -> Hashable:
        return size

    def shown(self, value: Value) -> list[Float[Tensor, "_ _ _"]]:
        return [single(value)[0]]


@final
class ImageKind(PictureKind):
    """A photograph, `(1, 3, h, w)` in [0, 1]."""

    def load(self, source: Any, *, who: str) -> Float[Tensor, "1 3 h w"]:
        return load_image(source, who=who)

    def fit(self, value: Value, size: Size, fit: Fit) -> Value:
        return resize_image(_cut(single(value), fit), size)

    def pack(self, value: Value) -> Tensor:
        return _packed(single(value))

    def unpack(self, packed: Any) -> Tensor:
        return _unpacked(packed)


@final
class ImagesKind(InputKind):
    """Several photographs, each in its own shape: a folder, a list, or a batch."""

    def load(self, source: Any, *, who: str) -> tuple[Tensor, ...]:
        pictures = _several(source, who=who)
        return tuple(load_image(each, who=f"{who} {i}") for i, each in enumerate(pictures))

    def fit(self, value: Value, size: Size, fit: Fit) -> Value:
        return tuple(
            resize_image(_cut(image, fit), own_size(_sides(image), size, fit)) for image in value
        )

    def shape(self, value: Value, size: Size, fit: Fit) -> Hashable:
        return tuple(own_size(_sides(image), size, fit) for image in value)

    def pack(self, value: Value) -> list[Tensor]:
        return [_packed(image) for image in value]

    def unpack(self, packed: Any) -> tuple[Tensor, ...]:
        return tuple(map(_unpacked, packed))

    def shown(self, value: Value) -> list[Float[Tensor, "_ _ _"]]:
        return [image[0] for image in value]


@final
class MaskKind(PictureKind):
    """Where an object is, `(1, 1, h, w)`, 1 on it and 0 elsewhere."""

    def load(self, source: Any, *, who: str) -> Float[Tensor, "1 1 h w"]:
        return load_mask(source, who=who)

    def fit(self, value: Value, size: Size, fit: Fit) -> Value:
        mask = single(value)
        # Binary again: a region's weights shall be 0 or 1 at every size, and not blur its edge.
        return (resize_mask(_cut(mask, fit), size) > 0.5).to(mask)

    def pack(self, value: Value) -> Tensor:
        return _packed(single(value))

    def unpack(self, packed: Any) -> Tensor:
        return _unpacked(packed)


@final
class MasksKind(InputKind):
    """Several masks of one image: a folder, a list, or files with commas between."""

    def load(self, source: Any, *, who: str) -> tuple[Tensor, ...]:
        pictures = _several(source, who=who)
        return tuple(
            load_mask(each, who=f"{who} {i}", alone=False) for i, each in enumerate(pictures)
        )

    def fit(self, value: Value, size: Size, fit: Fit) -> Value:
        return tuple(single(KINDS["mask"].fit(mask, size, fit)) for mask in value)

    def shape(self, value: Value, size: Size, fit: Fit) -> Hashable:
        return (len(value), size)

    def pack(self, value: Value) -> list[Tensor]:
        return [_packed(mask) for mask in value]

    def unpack(self, packed: Any) -> tuple[Tensor, ...]:
        return tuple(map(_unpacked, packed))

    def shown(self, value: Value) -> list[Float[Tensor, "_ _ _"]]:
        return [mask[0] for mask in value]


@final
class WordsKind(InputKind):
    """Names, such as of classes: a list, or a text with commas between.

    Kept as the bytes of a text, since inputs are tensors; `words_in` reads them again.
    """

    pictures = False

    def load(self, source: Any, *, who: str) -> Tensor:
        listed = source.split(",") if isinstance(source, str) else source
        if isinstance(listed, int):
            listed = [listed]
        known = isinstance(listed, Sequence) and all(isinstance(e, str | int) for e in listed)
        words = [str(each).strip() for each in listed] if known else []
        if not words or not all(words) or any("\n" in word for word in words):
            raise InputError(
                f"{who}: expected names with commas between, such as tabby,lion, or a list of "
                f"them; got {source!r:.60}."
            )
        return torch.tensor([list("\n".join(words).encode())], dtype=torch.int32)


def words_in(value: Value) -> list[str]:
    """The words of an input of kind `words`.

    Example:
        >>> words_in(WordsKind().load("tabby, lion", who="classes"))
        ['tabby', 'lion']
    """
    return bytes(single(value)[0].tolist()).decode().split("\n")


@final
class LabelsKind(PictureKind):
    """A class at every pixel, `(1, 1, h, w)` whole numbers; classes are never blended."""

    endings = ARRAYS

    def load(self, source: Any, *, who: str) -> Int64[Tensor, "1 1 h w"]:
        return load_labels(source, who=who)

    def fit(self, value: Value, size: Size, fit: Fit) -> Value:
        labels = _cut(single(value), fit)
        # The pixel under each new pixel's centre. `F.interpolate` does not take whole numbers.
        rows, columns = (
            ((torch.arange(new) + 0.5) * old / new).long()
            for new, old in zip(size, labels.shape[-2:], strict=True)
        )
        return labels[..., rows[:, None], columns]

    def shown(self, value: Value) -> list[Float[Tensor, "_ _ _"]]:
        labels = single(value)[0, 0]
        # Hues a golden section apart: classes with neighbouring numbers differ clearly.
        turns = (labels * 0.618034) % 1
        hues = turns[None] + torch.tensor([0.0, 1 / 3, 2 / 3]).reshape(3, 1, 1)
        return [(0.5 + 0.5 * torch.cos(2 * math.pi * hues)) * (labels > 0)]


@final
class TensorKind(InputKind):
    """Numbers of any shape, `(1, ...)`: a row for one photograph."""

    endings, pictures = ARRAYS, False

    def load(self, source: Any, *, who: str) -> Tensor:
        return load_array(source, who=who, names=(who,))[None]


@final
class LatentKind(InputKind):
    """A row of a generator's latent, `(1, ...)` floats, as a run's `tensors` folder has it."""

    endings, pictures = ARRAYS, False

    def load(self, source: Any, *, who: str) -> Tensor:
        values = load_array(source, who=who, names=(who, "latent")).float()
        return values if values.ndim > 1 and len(values) == 1 else values[None]


KINDS: Final[Mapping[KindWord, InputKind]] = MappingProxyType(
    {
        "image": ImageKind(),
        "images": ImagesKind(),
        "mask": MaskKind(),
        "masks": MasksKind(),
        "labels": LabelsKind(),
        "words": WordsKind(),
        "tensor": TensorKind(),
        "latent": LatentKind(),
    }
)


def single(value: Value) -> Tensor:
    """The tensor of an input that is one.

    Raises:
        InputError: It is several images.
    """
    if isinstance(value, Tensor):
        return value
    raise InputError(f"Expected one image, got {len(value)}.")


def _several(source: Any, *, who: str) -> Sequence[Any]:
    """The pictures that somebody means by a folder, a list, or files with commas between.

    Raises:
        InputError: It is none of these, or holds none.
    """
    # A folder or a file may have a comma in its name.
    if isinstance(source, str) and "," in source and not Path(source).expanduser().exists():
        source = [each.strip() for each in source.split(",") if each.strip()]
    if isinstance(source, str | os.PathLike):
        # A single file is meant as it stands: many commands take one of each.
        path = Path(source).expanduser()
        source = [path] if path.is_file() and is_picture(path) else pictures_in(path, who=who)
    one_picture = not isinstance(source, Sequence) and getattr(source, "ndim", 0) != 4
    if one_picture or isinstance(source, bytes):
        shape = f" of shape {tuple(source.shape)}" if hasattr(source, "shape") else ""
        raise InputError(
            f"{who}: expected a folder, a list of pictures, or an array of four axes, got "
            f"{type(source).__name__}{shape}. A single picture is a list of one."
        )
    if not len(source):
        raise InputError(f"{who}: expected at least one image, got none.")
    several: Sequence[Any] = source
    return several


def own_size(shape: Size, size: Size, fit: Fit) -> Size:
    """Height and width at a stage of `size` of an image that results are not laid on.

    With `keep`, its own shape and as many pixels as the stage has; else the stage's size.

    Example:
        >>> own_size((100, 400), (64, 64), "keep"), own_size((100, 400), (64, 64), "stretch")
        ((32, 128), (64, 64))
    """
    if fit != "keep":
        return size
    side, root = math.sqrt(size[0] * size[1]), math.sqrt(shape[0] / shape[1])
    return max(1, round(side * root)), max(1, round(side / root))


def _sides(image: Tensor) -> Size:
    return image.shape[-2], image.shape[-1]


def _cut(values: Tensor, fit: Fit) -> Tensor:
    return central_square(values) if fit == "crop" else values


def _packed(tensor: Tensor) -> Tensor:
    """What came from 8 bits goes back to them."""
    bytes_ = (tensor * 255).round().to(torch.uint8)
    return bytes_ if torch.equal(bytes_.to(tensor.dtype) / 255, tensor) else tensor


def _unpacked(tensor: Tensor) -> Tensor:
    return tensor.float() / 255 if tensor.dtype == torch.uint8 else tensor

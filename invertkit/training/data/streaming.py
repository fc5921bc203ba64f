"""Photographs read from the disk as the training goes, by several workers: for large sets."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, final

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as pictures

from invertkit.errors import InputError
from invertkit.training.data.batches import Share, TrainingBatch, mixed, rows_of_epoch
from invertkit.training.data.files import PictureFiles

_EIGENVALUES: Final = (0.2175, 0.0188, 0.0045)
_EIGENVECTORS: Final = (
    (-0.5675, 0.7192, 0.4009),
    (-0.5808, -0.0045, -0.8140),
    (-0.5836, -0.6948, 0.4203),
)
_MARGIN: Final = 256 / 224


@final
class Lighting(torch.nn.Module):
    """Add to all pixels a random multiple of the principal colours of ImageNet.

    Args:
        strength: Standard deviation of the multiples.

    Source: "fancy PCA", Krizhevsky et al. 2012, §4.1; 0.05 as in MadryLab/robustness.
    """

    def __init__(self, strength: float) -> None:
        super().__init__()
        self.strength = strength

    def forward(self, image: Float[Tensor, "3 h w"]) -> Float[Tensor, "3 h w"]:
        """The image, not clamped."""
        weights = torch.randn(3) * self.strength * torch.tensor(_EIGENVALUES)
        return image + (torch.tensor(_EIGENVECTORS) @ weights)[:, None, None]


def training_transform(size: int, *, smallest_crop: float = 0.08) -> v2.Compose:
    """MadryLab/robustness's `TRAIN_TRANSFORMS_IMAGENET`, on pictures of any size.

    RandomResizedCrop (`smallest_crop` to 100 % of the area, sides 3:4 to 4:3), mirroring,
    brightness, contrast and saturation within 10 %, lighting 0.05. The last may leave [0, 1];
    here the result is clamped, since the attack stays in that box.
    """
    return v2.Compose(
        [
            v2.PILToTensor(),
            v2.RandomResizedCrop(size, scale=(smallest_crop, 1.0), antialias=True),
            v2.RandomHorizontalFlip(),
            v2.ColorJitter(0.1, 0.1, 0.1),
            v2.ToDtype(torch.float32, scale=True),
            Lighting(0.05),
            v2.Lambda(lambda image: image.clamp(0, 1)),
        ]
    )


def central_view(picture: Any, size: int) -> Float[Tensor, "3 s s"]:
    """Shorter side to 256/224 of `size`, central square: `TEST_TRANSFORMS_IMAGENET`."""
    image = pictures.pil_to_tensor(picture)
    image = pictures.resize(image, [round(size * _MARGIN)], antialias=True)
    image = pictures.center_crop(image, [size, size])
    whole: Tensor = pictures.to_dtype(image, torch.float32, scale=True)
    return whole


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """The transforms read the CPU's global generator: seed it, and put it back."""
    before = torch.random.get_rng_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.random.set_rng_state(before)


def _deaf(worker: int) -> None:
    """Ctrl-C reaches the workers too; only the process that trains shall heed it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def spare_processors(processes: int = 1) -> int:
    """How many workers may read for each of so many training processes on this machine: 1 to 4.

    PyTorch warns of more than there are processors, and four keep up with any training here.

    Example:
        >>> spare_processors(1000)
        1
    """
    try:
        available = len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        available = os.cpu_count() or 1
    return max(1, min(4, available // processes))


@final
class _Augmented(Dataset[tuple[Tensor, int, int]]):
    """Of each picture what this epoch shows of it."""

    def __init__(
        self, files: PictureFiles, *, epoch: int, seed: int, transform: v2.Compose
    ) -> None:
        self.files, self.epoch, self.seed, self.transform = files, epoch, seed, transform

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, row: int) -> tuple[Tensor, int, int]:
        with _seeded(mixed(self.seed, self.epoch, row, 2)):
            image = self.transform(self.files.picture(row))
        return image, self.files.labels[row], row


@final
class _Plain(Dataset[tuple[Tensor, int]]):
    def __init__(self, files: PictureFiles, *, size: int) -> None:
        self.files, self.size = files, size

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        return central_view(self.files.picture(row), self.size), self.files.labels[row]


@final
@dataclass(frozen=True)
class Streamed:
    """A folder or zip of any size, decoded and augmented by worker processes.

    Args:
        path: Folder or zip.
        labelled: See `PictureFiles`.
        workers: Reading processes; 0 reads in this one, None for `spare_processors`.
        smallest_crop: See `training_transform`.

    Attributes:
        files: Its pictures.

    Raises:
        InputError: See `PictureFiles`; a damaged picture is named when its turn comes.
    """

    path: Path
    labelled: bool = True
    workers: int | None = None
    smallest_crop: float = 0.08
    files: PictureFiles = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "files", PictureFiles(self.path, labelled=self.labelled))

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self.files.classes

    @property
    def source(self) -> str:
        """The folder or zip, as it was given."""
        return str(self.path)

    def __len__(self) -> int:
        return len(self.files)

    def statistics(self) -> None:
        """Not cheap: it would decode every picture."""

    def epoch(
        self, epoch: int, *, size: int, batch: int, seed: int, share: Share, first: int = 0
    ) -> Iterator[TrainingBatch]:
        """One shuffled epoch; see `TrainingData`."""
        rows = rows_of_epoch(len(self), epoch=epoch, batch=batch, seed=seed)
        # The numbers come back with the images: random starts of the attack belong to photographs.
        transform = training_transform(size, smallest_crop=self.smallest_crop)
        shown = _Augmented(self.files, epoch=epoch, seed=seed, transform=transform)
        for images, labels, numbers in self._loader(shown, share.of(rows)[first:].tolist()):
            yield TrainingBatch(images, labels, numbers)

    def plain(
        self, *, size: int, batch: int
    ) -> Iterator[tuple[Float[Tensor, "b 3 s s"], Int[Tensor, " b"]]]:
        """Every picture once, in order, as tests see it; the last batch may be short."""
        rows = list(range(len(self)))
        groups = [rows[start : start + batch] for start in range(0, len(rows), batch)]
        yield from self._loader(_Plain(self.files, size=size), groups)

    def _loader(self, shown: Dataset[Any], batches: list[list[int]]) -> Iterator[Any]:
        workers = spare_processors() if self.workers is None else self.workers
        loader: DataLoader[Any] = DataLoader(
            shown,
            batch_sampler=batches,
            num_workers=min(workers, len(batches)),
            generator=torch.Generator(),  # else it would draw from the global one
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=_deaf,
        )
        try:
            yield from loader
        except InputError as error:  # from a worker it comes wrapped in its traceback
            raise InputError(str(error).strip().split("\n")[-1].split("InputError: ")[-1]) from None

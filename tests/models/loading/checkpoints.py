"""Files as others write them: the robustness library's, hostile ones, the hub client's cache."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from invertkit.models.classifiers import architectures

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SMALL = "shufflenet_v2_x0_5"


def state_of(architecture: str, *, classes: int = 1000, seed: int = 0) -> dict[str, Tensor]:
    """A state dict with finite values of its own in every entry."""
    generator = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        like = architectures.build(architecture, classes).state_dict()
    return {
        key: torch.rand(value.shape, generator=generator) * 0.1
        if value.is_floating_point()
        else torch.tensor(7)
        for key, value in like.items()
    }


def robustness_layout(
    state: Mapping[str, Tensor],
    *,
    again: Mapping[str, Tensor] | None = None,
    mean: tuple[float, ...] = MEAN,
    std: tuple[float, ...] = STD,
    wrapper: str = "",
) -> OrderedDict[str, Tensor]:
    """The state dict of DataParallel(AttackerModel(network)), in the library's order.

    Args:
        state: Of the network.
        again: Of the copy inside the attacker; the same tensors if not given.
        mean: Of the normaliser.
        std: Of the normaliser.
        wrapper: `model.` for networks that the library wrapped once more.
    """
    numbers = {"new_mean": mean, "new_std": std}
    normaliser = {key: torch.tensor(v).reshape(3, 1, 1) for key, v in numbers.items()}
    copy = state if again is None else again
    return OrderedDict(
        [
            *((f"module.normalizer.{key}", value) for key, value in normaliser.items()),
            *((f"module.model.{wrapper}{key}", value) for key, value in state.items()),
            *((f"module.attacker.normalize.{key}", value) for key, value in normaliser.items()),
            *((f"module.attacker.model.{wrapper}{key}", value) for key, value in copy.items()),
        ]
    )


def checkpoint_of_training(model: Mapping[str, Tensor], key: str = "model") -> dict[str, Any]:
    """A state dict with what the library saves beside it."""
    return {
        key: model,
        "optimizer": {
            "state": {0: {"momentum_buffer": torch.ones(4)}},
            "param_groups": [{"lr": 0.1, "momentum": 0.9, "nesterov": False, "params": [0]}],
        },
        "schedule": {
            "base_lrs": [0.1],
            "last_epoch": 89,
            "_last_lr": [0.001],
            "lr_lambdas": [None],
        },
        "epoch": 89,
        "nat_prec1": torch.tensor(75.59),
        "amp": None,
    }


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def hub_cache(root: Path, repository: str, files: Mapping[str, Path]) -> Path:
    """A cache of the hub client that holds these files, as the client lays it out."""
    commit = hashlib.sha1(repository.encode(), usedforsecurity=False).hexdigest()
    home = root / f"models--{repository.replace('/', '--')}"
    for folder in ("blobs", "refs", f"snapshots/{commit}"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    (home / "refs" / "main").write_text(commit)
    for name, source in files.items():
        blob = home / "blobs" / hashlib.sha256(source.read_bytes()).hexdigest()
        shutil.copy(source, blob)
        (home / "snapshots" / commit / name).symlink_to(Path("../../blobs") / blob.name)
    return root

"""The eyes say what network they are, or are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from invertkit.errors import InputError
from invertkit.models.classifiers.architectures import build
from invertkit.models.classifiers.convert import convert_weights
from invertkit.training.generator.eyes import open_eyes


def weights(folder: Path) -> Path:
    path = folder / "mine.pt"
    torch.save(build("timm:test_efficientnet", 1000).state_dict(), path)
    return path


def test_eyes_are_named_by_their_word_or_by_their_file(tmp_path: Path) -> None:
    given = weights(tmp_path)
    seen, architecture = open_eyes("timm:test_efficientnet", given)
    assert architecture == "timm:test_efficientnet"
    assert len(seen.classes) in (0, 1000)
    file = tmp_path / "mine.safetensors"
    convert_weights(given, file, trust=False, architecture="timm:test_efficientnet")
    assert open_eyes(str(file), None)[1] == "timm:test_efficientnet"


def test_eyes_that_could_not_be_opened_again_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "silent.pt"  # known by its names and shapes alone
    torch.save(build("shufflenet_v2_x1_0", 10).state_dict(), path)
    sentence = r"--eyes: nothing tells what network .* convert the file"
    with pytest.raises(InputError, match=sentence):
        open_eyes(str(path), None)

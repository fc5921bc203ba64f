from __future__ import annotations

from pathlib import Path

import pytest
from torch import Tensor

from tests.models.loading.checkpoints import (
    SMALL,
    state_of,
)


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


@pytest.fixture(scope="module")
def network() -> dict[str, Tensor]:
    return state_of(SMALL)

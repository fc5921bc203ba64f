from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, settings

from invertkit.core.scene import Scene
from invertkit.models.classifiers.classifier import Classifier
from tests.helpers import make_scene, tiny_classifier

torch.set_num_threads(1)

settings.register_profile(
    "invertkit",
    deadline=None,
    derandomize=True,
    max_examples=15,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
settings.load_profile("invertkit")


@pytest.fixture
def classifier() -> Classifier:
    """Five classes, widths (4, 4, 8, 8), float64."""
    return tiny_classifier(torch.float64)


@pytest.fixture
def classifier32() -> Classifier:
    """The same network in float32."""
    return tiny_classifier(torch.float32)


@pytest.fixture
def scene() -> Scene:
    """Reference, mask and target, 16×20, float64."""
    return make_scene()

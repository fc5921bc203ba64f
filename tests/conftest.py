from __future__ import annotations

import functools
from collections.abc import Iterator

import pytest
import torch
from hypothesis import HealthCheck, settings
from torch import Tensor

from invertkit.core.scene import Scene
from invertkit.models.classifiers.classifier import Classifier
from invertkit.objectives.patches import object_search
from tests.faults import offline, refuse  # noqa: F401
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


@pytest.fixture(autouse=True, scope="session")
def masks_are_registered_once() -> Iterator[None]:
    """The same few masks meet again and again, and each time 150 steps would lay them together."""
    register, known = object_search.register_masks, dict[tuple[object, ...], Tensor]()

    @functools.wraps(register)
    def remembered(mask: Tensor, target: Tensor) -> Tensor:
        key = (*mask.shape, mask.dtype, mask.numpy().tobytes(), target.numpy().tobytes())
        if key not in known:
            known[key] = register(mask, target)
        return known[key].clone()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(object_search, "register_masks", remembered)
        yield


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

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
import torch
from torch import Tensor, nn

import invertkit
from invertkit.core.modes import ordinary_modes
from invertkit.models.classifiers.classifier import Classifier
from tests.helpers import uniform

PAGE = {
    "inputs": ["image"],
    "models": {"classifier": {"type": "embedded"}},
    "variable": {"type": "pixels", "start": "image", "noise": 0.1},
    "objective": {
        "match": {"type": "pixel_distance"},
        "class": {"type": "cross_entropy"},
        "layer": {"type": "feature_statistics", "layers": ["0"]},
    },
    "optimizer": {"type": "adam", "lr": 0.01},
    "stages": [{"size": 8, "steps": 3}],
}


@contextmanager
def of_float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


MODES = {
    "no_grad": torch.no_grad,
    "inference": torch.inference_mode,
    "float64": of_float64,
    "bfloat16": lambda: torch.autocast("cpu", torch.bfloat16),
    "meta": lambda: torch.device("meta"),
}
modes = pytest.mark.parametrize("mode", MODES)


def entered(mode: str) -> AbstractContextManager[object]:
    return MODES[mode]()  # type: ignore[abstract, no-any-return]


def image_and_network() -> tuple[Tensor, Classifier]:
    """As a notebook makes them: wherever it stands."""
    image = (torch.arange(3 * 16 * 16, device="cpu", dtype=torch.float32) / 500).reshape(3, 16, 16)
    net = nn.Sequential(nn.Conv2d(3, 4, 3, device="cpu", dtype=torch.float32), nn.ReLU())
    net.extend([nn.Flatten(), nn.Linear(4 * 6 * 6, 5, device="cpu", dtype=torch.float32)])
    for weight in net.parameters():
        weight.data = (torch.arange(weight.numel(), device="cpu").reshape(weight.shape) % 7) / 10.0
        weight.data = weight.data.to(torch.float32)
    return image.fmod(1), Classifier(net)


def by_run() -> Tensor:
    image, network = image_and_network()
    result = invertkit.run(PAGE, image=image, models={"classifier": network}, device="cpu")
    return result.images


def by_steps() -> Tensor:
    image, network = image_and_network()
    inversion = invertkit.prepare(PAGE, image=image, models={"classifier": network}, device="cpu")
    for _ in invertkit.steps(inversion):
        pass
    return inversion.result().images


@modes
@pytest.mark.parametrize("way", [by_run, by_steps])
def test_a_run_is_the_same_in_any_mode(mode: str, way: object) -> None:
    wanted = way()  # type: ignore[operator]
    with entered(mode):
        found = way()  # type: ignore[operator]
    assert found.dtype == torch.float32
    assert torch.equal(found, wanted)


@modes
def test_between_two_steps_the_mode_is_the_callers(mode: str) -> None:
    def state() -> tuple[object, ...]:
        return (
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            torch.get_default_dtype(),
            torch.is_autocast_enabled("cpu"),
            torch.get_default_device(),
        )

    image, network = image_and_network()
    ordinary = state()
    with entered(mode):
        wanted = state()
        given = {"image": image, "models": {"classifier": network}}
        for _ in invertkit.steps(invertkit.prepare(PAGE, device="cpu", **given)):
            assert state() == wanted
        with ordinary_modes():
            assert state() == ordinary
        assert state() == wanted
    assert state() == ordinary


def test_a_network_made_in_inference_mode_passes_gradients() -> None:
    with torch.inference_mode():
        net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    image = uniform(1, 3, 4, 4, dtype=torch.float32).requires_grad_()
    Classifier(net)(image).square().sum().backward()
    assert image.grad is not None
    assert image.grad.any()

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from invertkit.apps.gradients.input_gradient import input_gradient
from invertkit.metrics.gradients import edge_alignment
from invertkit.models.classifiers.classifier import Classifier
from tests.helpers import normal, tiny_classifier, uniform


@given(seed=st.integers(0, 9), count=st.integers(1, 3))
def test_the_gradient_is_that_of_the_cross_entropy(seed: int, count: int) -> None:
    classifier, images = tiny_classifier(), uniform(count, 3, 16, 20, seed=seed)
    labels = torch.arange(count) % 5
    found, logits = input_gradient(classifier, images, labels)
    wanted = images.clone().requires_grad_()
    F.cross_entropy(classifier(wanted), labels, reduction="sum").backward()
    assert torch.allclose(found, wanted.grad, rtol=1e-9, atol=1e-15)  # type: ignore[arg-type]
    assert torch.allclose(logits, classifier(images))
    step = normal(count, 3, 16, 20, seed=seed + 1) * 1e-6
    change = F.cross_entropy(classifier(images + step), labels, reduction="sum") - F.cross_entropy(
        classifier(images - step), labels, reduction="sum"
    )
    assert change.item() == pytest.approx(2 * (found * step).sum().item(), rel=1e-3, abs=1e-12)


def test_a_certain_classifier_keeps_its_gradient() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 3))
    with torch.no_grad():
        net[1].weight.copy_(normal(3, 192, dtype=torch.float32))
        net[1].bias.copy_(torch.tensor([200.0, 0.0, 0.0]))
    classifier = Classifier(net, mean=(0, 0, 0), std=(1, 1, 1))
    image = uniform(1, 3, 8, 8, dtype=torch.float32) * 0.1
    label = torch.tensor([0])
    found, _ = input_gradient(classifier, image, label)
    exact, _ = input_gradient(classifier.double(), image.double(), label)
    assert 0 < exact.abs().max() < 1e-60
    assert torch.allclose(found, exact, rtol=1e-2, atol=0)
    assert edge_alignment(found, image).isfinite().all()

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from invertkit.models.classifiers.classifier import Classifier
from invertkit.models.folding.pairs import find_pairs
from tests.helpers import uniform
from tests.models.folding.networks import (
    NETS,
    Activating,
    Checkpointed,
    Standardised,
    assert_near,
    lively,
    make,
    nets,
    norms_in,
    scripted,
)


@nets
def test_only_batch_norms_that_are_the_sole_readers_vanish(name: str) -> None:
    folding, plain, size = make(name)
    _, _, every, left = NETS[name]
    assert norms_in(plain, size=size) == every
    assert norms_in(folding, size=size) == left


@pytest.mark.parametrize(
    "net",
    [
        nn.Sequential(Standardised(3, 4, 3), nn.BatchNorm2d(4)),
        nn.Sequential(nn.Conv2d(3, 4, 3), Activating(4)),
        nn.Sequential(parametrizations.weight_norm(nn.Conv2d(3, 4, 3)), nn.BatchNorm2d(4)),
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4).bfloat16()).bfloat16(),
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4)),
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.Identity(), nn.InstanceNorm2d(4)),
        nn.Sequential(scripted()),
    ],
    ids=["standardised", "activating", "parametrised", "bfloat16", "relu", "instance", "script"],
)
def test_what_is_not_certain_is_not_joined(net: nn.Module) -> None:
    classifier = Classifier(net)
    dtype = next(net.parameters()).dtype
    image = uniform(2, 3, 8, 8, dtype=dtype)
    plain = Classifier(net, fold=False).observe(image, ("logits",))["logits"]
    found = classifier.observe(image, ("logits",))["logits"]
    torch.testing.assert_close(found, plain, rtol=1e-5, atol=1e-5)
    assert not any(
        weights._faster and weights.norm for weights in classifier._folding._weights.values()
    )


def test_what_runs_again_in_the_backward_is_the_same_there() -> None:
    for reentrant in (True, False):
        net = lively(Checkpointed(reentrant=reentrant))
        slopes = []
        for fold in (True, False):
            image = uniform(1, 3, 8, 8).requires_grad_()
            Classifier(net, fold=fold).observe(image, ("logits",))["logits"].sum().backward()
            slopes.append(image.grad)
        assert_near(*slopes)  # type: ignore[arg-type]


def test_the_search_leaves_generators_hooks_and_warnings_alone() -> None:
    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))

        def forward(self, image: Tensor) -> Tensor:
            return self.body(image + torch.randn_like(image)).mean((2, 3))

    net = lively(Noisy())
    state = torch.get_rng_state()
    pairs = find_pairs(net, torch.zeros(1, 3, 8, 8, dtype=torch.float64))
    assert [(pair.conv, pair.norm) for pair in pairs] == [(net.body[0], net.body[1])]  # type: ignore[index]
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())
    assert find_pairs(net, torch.zeros(1, 4, 8, 8, dtype=torch.float64)) == ()


def test_a_network_that_was_watched_is_let_go() -> None:
    def watched() -> weakref.ref[nn.Module]:
        net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).eval()
        assert len(find_pairs(net.requires_grad_(False), torch.zeros(1, 3, 8, 8))) == 1
        return weakref.ref(net)

    net = watched()
    gc.collect()
    assert net() is None

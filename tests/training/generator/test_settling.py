"""Batch-norm statistics of averaged weights."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.training.generator.tiny import PLAN, tiny_net


def test_settled_statistics_are_those_of_the_features() -> None:
    net = tiny_net()
    draw = torch.Generator().manual_seed(5)
    seen: list[Tensor] = []
    hook = net.bn.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    for _ in range(8):
        latent = torch.randn(64, PLAN.latent, generator=draw)
        labels = torch.randint(3, (64,), generator=draw)
        net(latent, net.embeddings.weight.T[labels])
    hook.remove()
    features = torch.cat(seen)
    assert net.bn.running_mean is not None
    assert net.bn.running_var is not None
    assert not net.training
    scale = features.std()
    assert (features.mean((0, 2, 3)) - net.bn.running_mean).abs().max() < 0.15 * scale
    assert torch.allclose(features.var((0, 2, 3)), net.bn.running_var, rtol=0.3)

from __future__ import annotations

import pytest
import torch
from torch import nn

from invertkit.models.stacked.normed_leaky import NormKind, normed_leaky
from tests.helpers import normal


@pytest.mark.parametrize("kind", ["instance", "batch"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("rows", [1, 3])
def test_the_fused_norm_is_pytorchs_norm_and_leaky_relu(
    kind: NormKind, layout: torch.memory_format, rows: int
) -> None:
    given = [normal(rows, 3, 4, 5).contiguous(memory_format=layout), normal(3), normal(3, seed=1)]
    inputs = [tensor.requires_grad_() for tensor in given]
    training = nn.functional.batch_norm
    if kind == "batch":
        wanted = training(inputs[0], None, None, *inputs[1:], training=True)
    else:
        singles = inputs[0].split(1)
        wanted = torch.cat([training(z, None, None, *inputs[1:], training=True) for z in singles])
    wanted = nn.functional.leaky_relu(wanted, 0.2)
    found = normed_leaky(*inputs, kind)  # type: ignore[arg-type]
    torch.testing.assert_close(found, wanted)
    weights = normal(rows, 3, 4, 5, seed=2)
    for ours, theirs in zip(
        torch.autograd.grad(found, inputs, weights),
        torch.autograd.grad(wanted, inputs, weights),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)
    assert found.is_contiguous(memory_format=layout)


def test_the_fused_norm_refuses_to_be_differentiated_twice() -> None:
    features = normal(1, 3, 4, 5).requires_grad_()
    output = normed_leaky(features, torch.ones(3).double(), torch.zeros(3).double(), "instance")
    (slope,) = torch.autograd.grad(output.square().sum(), features, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()

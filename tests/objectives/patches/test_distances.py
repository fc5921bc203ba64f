from __future__ import annotations

import torch

from invertkit.core.precision import exactly, products
from tests.helpers import uniform


def test_distances_are_exact_whatever_is_asked_of_networks() -> None:
    """On CUDA; here that the setting is put aside inside, and back afterwards."""
    seen: list[bool] = []
    matrices = torch.backends.cuda.matmul
    with products("tf32"):
        assert matrices.allow_tf32
        with exactly():
            seen.append(matrices.allow_tf32)
        assert matrices.allow_tf32
    assert seen == [False]


def test_distances_are_those_of_the_formula() -> None:
    queries, keys = uniform(5, 7, seed=1), uniform(5, 9, seed=2)
    found = torch.ops.invertkit.distances(
        queries.square().sum(0), -2 * queries, keys, keys.square().sum(0)
    )
    torch.testing.assert_close(found, torch.cdist(queries.T, keys.T).square())
    torch.library.opcheck(
        torch.ops.invertkit.distances.default,
        (queries.square().sum(0), -2 * queries, keys, keys.square().sum(0)),
        test_utils=("test_schema", "test_faketensor"),
    )

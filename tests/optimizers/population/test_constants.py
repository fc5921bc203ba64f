from __future__ import annotations

import pytest

from invertkit.optimizers.population.constants import constants


def test_constants_of_pycma_in_ten_dimensions() -> None:
    k = constants(10, 10)
    assert k.parents == 5
    assert sum(k.weights[:5]) == pytest.approx(1)
    assert k.c_1 + k.c_mu * sum(k.weights) == pytest.approx(0)  # eq. 50: nothing fades
    assert k.chi == pytest.approx(3.084327759799864, rel=1e-14)
    assert min(constants(10, 10, active=False).weights) == 0

from __future__ import annotations

import pytest

from invertkit.models.generators.kitgan import KitGenerator
from invertkit.training.generator import train
from invertkit.training.generator.plan import GeneratorPlan
from invertkit.training.generator.settling import settle


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batch-norm statistics over two batches instead of 64."""

    def few(generator: KitGenerator, plan: GeneratorPlan, *, classes: int) -> None:
        settle(generator, plan, classes=classes, batches=2)

    monkeypatch.setattr(train, "settle", few)

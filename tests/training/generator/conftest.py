from __future__ import annotations

import pytest

from invertkit.models.generators.conditional import ConditionalGenerator
from invertkit.training.generator import command
from invertkit.training.generator.plan import GeneratorPlan
from invertkit.training.generator.settling import settle


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batch-norm statistics over two batches instead of many."""

    def few(
        generator: ConditionalGenerator, plan: GeneratorPlan, *, classes: int, batches: int = 2
    ) -> None:
        settle(generator, plan, classes=classes, batches=2)

    monkeypatch.setattr(command, "settle", few)

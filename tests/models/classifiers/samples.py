from __future__ import annotations

import json
from typing import Any

import torch
from torch import Tensor

from invertkit.models.classifiers.classifier import Classifier
from tests.helpers import uniform

TIMM = "lcnet_035"


def logits(classifier: Classifier, side: int = 64) -> Tensor:
    with torch.no_grad():
        return classifier(uniform(1, 3, side, side, dtype=torch.float32))


def card(**facts: Any) -> dict[str, str]:
    return {key: json.dumps(value) for key, value in facts.items()}

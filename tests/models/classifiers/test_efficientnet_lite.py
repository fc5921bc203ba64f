from __future__ import annotations

import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from invertkit.models.classifiers.classifier import Classifier
from invertkit.models.classifiers.efficientnet_lite import EfficientNetLite0
from invertkit.models.folding.folding import Folding
from tests.helpers import global_generators_unmoved, uniform


def twins() -> tuple[nn.Module, nn.Module]:
    """Ours and timm's, with the same weights and lively batch norms."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        theirs = timm.create_model("tf_efficientnet_lite0", num_classes=7).eval()
        for module in theirs.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.normal_(0, 0.2)
                module.running_var.uniform_(0.3, 1.5)
                nn.init.normal_(module.bias, 0.2, 0.2)
        ours = EfficientNetLite0(7).eval()
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


OURS, THEIRS = twins()


def test_the_tensors_are_timms_in_their_order() -> None:
    assert list(OURS.state_dict()) == list(THEIRS.state_dict())
    whole = EfficientNetLite0()
    assert sum(weight.numel() for weight in whole.parameters()) == 4_652_008


@settings(max_examples=8)
@given(height=st.integers(1, 70), width=st.integers(1, 70))
def test_the_logits_are_timms_at_every_size(height: int, width: int) -> None:
    image = uniform(2, 3, height, width, seed=height, dtype=torch.float32) * 4 - 2
    with torch.no_grad():
        assert torch.equal(OURS(image), THEIRS(image))


def test_layers_have_the_sizes_it_says() -> None:
    sizes = {
        "conv_stem": (32, 112), "blocks.0": (16, 112), "blocks.1": (24, 56), "blocks.2": (40, 28),
        "blocks.3": (80, 14), "blocks.4": (112, 14), "blocks.5": (192, 7), "blocks.6": (320, 7),
    }  # fmt: skip
    classifier = Classifier(EfficientNetLite0(2))
    with torch.no_grad():
        seen = classifier.observe(torch.zeros(1, 3, 224, 224), list(sizes))
    assert {name: (v.shape[1], v.shape[2]) for name, v in seen.items()} == sizes


def test_every_batch_norm_folds_into_its_convolution() -> None:
    ours = twins()[0].requires_grad_(False)
    image = uniform(1, 3, 40, 40, dtype=torch.float32)
    folding = Folding()
    with global_generators_unmoved(), torch.no_grad():
        plain = ours(image)
        with folding.lent(ours, image, frozenset()):
            folded = ours(image)
            norms = [m for m in ours.modules() if isinstance(m, nn.BatchNorm2d)]
            left = [m for m in norms if "forward" not in vars(m)]
    torch.testing.assert_close(folded, plain, atol=1e-4, rtol=1e-4)
    assert norms
    assert left == []

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from invertkit.errors import InputError, RecipeError, TapError
from invertkit.models.classifiers.classifier import Classifier
from tests.helpers import uniform


def body(channels: int = 3) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return nn.Sequential(
            nn.Conv2d(channels, 4, 3),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Conv2d(4, 6, 3, stride=2),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(24, 5),
        )


# ---------------------------------------------------------------------- what networks give


class Named(NamedTuple):
    features: Tensor
    logits: Tensor


@dataclass
class Data:
    loss: None
    logits: Tensor
    hidden: Tensor


GIVEN: dict[str, Callable[[Tensor, Tensor], object]] = {
    "tensor": lambda logits, other: logits,
    "tuple": lambda logits, other: (logits, other),
    "list": lambda logits, other: [None, logits, other],
    "named tuple": lambda logits, other: Named(other, logits),
    "mapping": lambda logits, other: {"features": other, "logits": logits},
    "mapping without": lambda logits, other: {"out": logits, "aux": other},
    "dataclass": lambda logits, other: Data(None, logits, other),
    "object": lambda logits, other: SimpleNamespace(logits=logits, other=other),
}


class Giving(nn.Module):
    """Network and layer give the same, wrapped in one of these ways."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.head, self.form = Head(form), form

    def forward(self, image: Tensor) -> object:
        return self.head(features=image.mean((2, 3)))


class Head(nn.Module):
    def __init__(self, form: str) -> None:
        super().__init__()
        self.linear, self.form = nn.Linear(3, 5), form

    def forward(self, *, features: Tensor) -> object:
        return GIVEN[self.form](self.linear(features), features)


@pytest.mark.parametrize("form", GIVEN)
def test_what_counts_is_found_in_whatever_a_network_gives(form: str) -> None:
    classifier = Classifier(Giving(form)).double()
    image = uniform(2, 3, 4, 4)
    features = classifier.normalized(image).mean((2, 3))
    wanted = classifier.net.head.linear(features)  # type: ignore[union-attr, operator]
    seen = classifier.observe(image, ("head", "head:input", "logits"))
    assert torch.equal(seen["head"], wanted)
    assert torch.equal(seen["logits"], wanted)
    assert torch.equal(seen["head:input"], features)
    assert torch.equal(classifier(image), wanted)


def test_what_holds_no_tensor_is_told() -> None:
    class Mute(nn.Module):
        def forward(self, image: Tensor) -> str:
            return "a cat"

    with pytest.raises(TapError, match="gives str without a tensor"):
        Classifier(Mute()).observe(uniform(1, 3, 4, 4), ("logits",))


# ---------------------------------------------------------------------- numbers and channels


@given(
    of_net=st.sampled_from([torch.float64, torch.float32, torch.bfloat16, torch.float16]),
    of_image=st.sampled_from([torch.float64, torch.float32]),
    channels=st.sampled_from([1, 3]),
)
def test_networks_of_any_numbers_and_of_grey_see_any_image(
    of_net: torch.dtype, of_image: torch.dtype, channels: int
) -> None:
    net = body(channels).eval().to(of_net)
    mean, std = (0.4, 0.5, 0.6)[:channels], (0.2, 0.3, 0.25)[:channels]
    classifier = Classifier(copy.deepcopy(net), mean=mean, std=std)
    image = uniform(2, 3, 9, 8, dtype=of_image).requires_grad_()
    rows = [(image[:, c] - mean[c]) / std[c] for c in range(channels)]
    if channels == 1:
        red, green, blue = image.unbind(1)
        rows = [(0.299 * red + 0.587 * green + 0.114 * blue - mean[0]) / std[0]]
    wanted = net(torch.stack(rows, 1).to(of_net)).to(of_image)
    found = classifier(image)
    assert found.dtype == of_image
    near = {torch.float64: 1e-6, torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 6e-2}
    torch.testing.assert_close(found, wanted, rtol=near[of_net], atol=near[of_net])
    (slope,) = torch.autograd.grad(found.square().sum(), image)
    assert slope.isfinite().all()
    assert slope.any()


def test_a_grey_network_with_the_usual_numbers_takes_their_mean() -> None:
    classifier = Classifier(body(1).double(), mean=(0.3, 0.4, 0.8), std=(0.1, 0.2, 0.3))
    assert classifier.mean == pytest.approx((0.5,))
    assert classifier.std == pytest.approx((0.2,))


# ---------------------------------------------------------------------- one image at a time


@given(count=st.integers(1, 4), kind=st.sampled_from(["2d", "subclass", "sync"]))
def test_norms_without_statistics_do_not_mix_the_images_of_a_batch(count: int, kind: str) -> None:
    class Doubling(nn.BatchNorm2d):
        def forward(self, features: Tensor) -> Tensor:
            return 2 * super().forward(features)

    kinds = {"2d": nn.BatchNorm2d, "subclass": Doubling, "sync": nn.SyncBatchNorm}
    net = body()
    net[1] = kinds[kind](4, track_running_stats=False)
    alone = copy.deepcopy(net).double().eval()
    classifier = Classifier(net).double()
    for each in (classifier, copy.deepcopy(classifier)):
        image = uniform(count, 3, 9, 8)
        wanted = torch.cat([alone(classifier.normalized(row)) for row in image.split(1)])
        torch.testing.assert_close(each(image), wanted, rtol=1e-10, atol=1e-10)


def test_norms_without_statistics_are_told_of(caplog: pytest.LogCaptureFixture) -> None:
    net = body()
    Classifier(net)
    assert not caplog.text
    net[1] = nn.BatchNorm2d(4, track_running_stats=False)
    Classifier(net)
    assert "1 batch norms have no running statistics (1)" in caplog.text


# ---------------------------------------------------------------------- what is refused


def test_a_network_of_one_size_says_so() -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.position = nn.Parameter(torch.zeros(1, 4, 8, 8))
            self.stem, self.head = nn.Conv2d(3, 4, 1), nn.Linear(4, 5)

        def forward(self, image: Tensor) -> Tensor:
            assert image.shape[-1] == 8, f"Input width ({image.shape[-1]}) doesn't match (8)."
            return self.head((self.stem(image) + self.position).mean((2, 3)))

    classifier = Classifier(Fixed(), description="a transformer", size=8).double()
    assert classifier(uniform(1, 3, 8, 8)).shape == (1, 5)
    for size, why in (((6, 6), r"Input width \(6\) doesn't match \(8\)"), ((6, 8), "must match")):
        sentence = f"a transformer fails on images of {size[0]}×{size[1]}.*{why}.*made for 8×8"
        with pytest.raises(RecipeError, match=sentence):
            classifier.observe(uniform(1, 3, *size), ("stem", "logits"))
        with pytest.raises(RecipeError, match=sentence):
            classifier(uniform(1, 3, *size))


def test_a_lazy_layer_that_never_ran_is_refused() -> None:
    net = nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(), nn.LazyLinear(5))
    with pytest.raises(InputError, match=r"'0'.*is lazy \(LazyConv2d\).*run the network"):
        Classifier(net)
    net(uniform(1, 3, 5, 5, dtype=torch.float32))
    assert Classifier(net)(uniform(1, 3, 5, 5)).shape == (1, 5)


def test_compiled_networks_give_logits_and_say_that_they_show_no_layers() -> None:
    with warnings.catch_warnings(action="ignore"):
        net = torch.jit.script(body().eval())  # type: ignore[no-untyped-call]
    classifier = Classifier(net)
    image = uniform(2, 3, 9, 8, dtype=torch.float32).requires_grad_()
    classifier(image).sum().backward()
    assert image.grad is not None
    seen = classifier.observe(image, ("0", "logits"))
    assert seen.keys() == {"logits"}
    torch.testing.assert_close(seen["logits"], body().eval()(classifier.normalized(image)))


class Checkpointed(nn.Module):
    def __init__(self, *, reentrant: bool) -> None:
        super().__init__()
        self.body, self.reentrant = body(), reentrant

    def forward(self, image: Tensor) -> Tensor:
        out: Tensor = checkpoint(self.body, image, use_reentrant=self.reentrant)
        return out


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed_blocks_give_whole_gradients_or_say_that_they_cannot(reentrant: bool) -> None:  # noqa: FBT001
    plain = Classifier(body().double(), fold=False)
    classifier = Classifier(Checkpointed(reentrant=reentrant).double())

    def slope(network: Classifier, layer: str) -> Tensor:
        image = uniform(2, 3, 9, 8).requires_grad_()
        seen = network.observe(image, (layer,))[layer]
        (found,) = torch.autograd.grad(seen.square().sum(), image)
        return found

    if not reentrant:
        torch.testing.assert_close(slope(classifier, "logits"), slope(plain, "logits"))
        torch.testing.assert_close(slope(classifier, "body.3"), slope(plain, "3"))
        return
    image = uniform(2, 3, 9, 8).requires_grad_()
    classifier(image).square().sum().backward()
    wanted = uniform(2, 3, 9, 8).requires_grad_()
    plain(wanted).square().sum().backward()
    torch.testing.assert_close(image.grad, wanted.grad)
    with pytest.raises(TapError, match=r"'body.3' runs without gradients.*checkpoint"):
        slope(classifier, "body.3")

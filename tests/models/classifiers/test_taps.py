from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from invertkit.models.classifiers.classifier import Classifier
from invertkit.models.perceptual.network import Part, PerceptualNet
from invertkit.objectives.outputs import Activation, Attention
from tests.helpers import make_scene, score, setting, uniform


def _index(x: Tensor, other: Tensor) -> Tensor:
    x[:, 1] = other[:, 0]
    return x


def _through_a_view(x: Tensor, other: Tensor) -> Tensor:
    x.flatten(2)[..., 0].mul_(3)
    return x


def _silently(x: Tensor, other: Tensor) -> Tensor:
    x += other
    return 2 * other  # what was written to is not what goes on


WRITES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "nothing": lambda x, other: x * 1.5,
    "add": lambda x, other: x.add_(other),
    "relu": lambda x, other: F.relu(x, inplace=True),
    "scale": lambda x, other: x.mul_(0.5),
    "index": _index,
    "view": _through_a_view,
    "silent": _silently,
}
"""What a network may do to what a layer gave it."""


class Writing(nn.Module):
    """Layers, some of which give what they were given, between each two of which it writes."""

    def __init__(self, writes: Sequence[str], *, idle: int = -1) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)
        self.layers = nn.ModuleList(
            nn.Identity() if i == idle else nn.Conv2d(4, 4, 3, padding=1)
            for i in range(len(writes))
        )
        self.writes = tuple(writes)
        self.head = nn.Linear(4, 5)

    def forward(self, image: Tensor) -> Tensor:
        x = self.stem(image)
        for layer, write in zip(self.layers, self.writes, strict=True):
            x = WRITES[write](layer(x), 0.3 * x)
        return self.head(x.mean((2, 3)))


def built(writes: Sequence[str], *, idle: int = -1) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(len(writes))
        return Writing(writes, idle=idle).double()


def plain_look(net: nn.Module, image: Tensor) -> dict[str, Tensor]:
    """Every layer and its input, each copied at once."""
    seen: dict[str, Tensor] = {}
    handles = []
    for name, module in net.named_modules():
        if not name or isinstance(module, nn.ModuleList):
            continue

        def before(_: nn.Module, inputs: tuple[Tensor], name: str = name) -> None:
            seen[f"{name}:input"] = inputs[0].clone()

        def after(_: nn.Module, inputs: object, output: Tensor, name: str = name) -> None:
            seen[name] = output.clone()

        handles += [module.register_forward_pre_hook(before), module.register_forward_hook(after)]
    seen["logits"] = net(image).clone()
    for handle in handles:
        handle.remove()
    return seen


def nets(*without: str) -> Callable[..., Callable[..., None]]:
    writes = st.sampled_from([name for name in WRITES if name not in without])
    return given(
        writes=st.lists(writes, min_size=1, max_size=4),
        idle=st.integers(-1, 3),
        data=st.data(),
    )


# What an activation gave must not be written to where gradients are wanted, taps or no taps.
differentiable = nets("relu")


@nets()
def test_a_layer_shows_what_it_put_out_whatever_else_is_read(
    writes: list[str], idle: int, data: st.DataObject
) -> None:
    net = built(writes, idle=idle)
    classifier = Classifier(copy.deepcopy(net), mean=(0,) * 3, std=(1,) * 3)
    image = uniform(2, 3, 6, 5)
    wanted = plain_look(net.eval(), image)
    for _ in range(3):  # of one classifier, which learns where its network writes
        layers = data.draw(st.sets(st.sampled_from(sorted(wanted)), min_size=1))
        seen = classifier.observe(image, layers)
        assert seen.keys() == layers
        for name in layers:
            torch.testing.assert_close(seen[name], wanted[name], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(classifier(image), wanted["logits"], rtol=1e-12, atol=1e-12)


@differentiable
def test_the_gradient_of_a_layer_is_that_of_the_layer_alone(
    writes: list[str], idle: int, data: st.DataObject
) -> None:
    """By finite differences would do; quicker is a network that ends with the layer."""
    net = built(writes, idle=idle)
    classifier = Classifier(net, mean=(0,) * 3, std=(1,) * 3)
    layers = [name for name, _ in net.named_modules() if name and name != "layers"]
    name = data.draw(st.sampled_from(layers))

    def slope(others: Sequence[str]) -> Tensor:
        image = uniform(2, 3, 6, 5).requires_grad_()
        seen = classifier.observe(image, {name, *others})
        (found,) = torch.autograd.grad(seen[name].sin().sum(), image)
        return found

    torch.testing.assert_close(slope([*layers, "logits"]), slope([]), rtol=1e-12, atol=1e-12)


@differentiable
def test_the_gradient_by_a_layer_is_whole(
    writes: list[str], idle: int, data: st.DataObject
) -> None:
    """As that of a network that begins there: what its output moves by if the layer moves."""
    net = built(writes, idle=idle)
    classifier = Classifier(net, mean=(0,) * 3, std=(1,) * 3)
    name = data.draw(st.sampled_from(["stem", *(f"layers.{i}" for i in range(len(writes)))]))
    image, step = uniform(1, 3, 4, 3).requires_grad_(), 1e-6
    seen = classifier.observe(image, (name, "logits"))
    (found,) = torch.autograd.grad(
        seen["logits"].sum(), seen[name], allow_unused=True, materialize_grads=True
    )
    direction = uniform(*seen[name].shape, seed=5) - 0.5
    ends = []
    for sign in (1, -1):

        def moved(_: nn.Module, inputs: object, output: Tensor, sign: int = sign) -> None:
            output.add_(direction, alpha=sign * step)  # also what it was given, if it gives that

        handle = net.get_submodule(name).register_forward_hook(moved)
        with torch.no_grad():
            ends.append(net(image).sum())
        handle.remove()
    slope = (ends[0] - ends[1]) / (2 * step)
    torch.testing.assert_close((found * direction).sum(), slope, rtol=1e-5, atol=1e-7)


def test_a_term_does_not_change_with_its_neighbours() -> None:
    """The residual sum of a ResNet is written into what its last norm gave."""
    from torchvision.models.resnet import BasicBlock

    with torch.random.fork_rng(devices=[]):
        block = BasicBlock(3, 3).double()
    classifier = Classifier(block).double()
    image = uniform(2, 3, 8, 8)
    alone = classifier.observe(image, ("bn2",))["bn2"]
    assert torch.equal(classifier.observe(image, ("bn2", "logits"))["bn2"], alone)
    assert not torch.equal(classifier.observe(image, ("logits",))["logits"], alone)


def test_nothing_is_copied_where_nobody_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    net = built(["nothing", "nothing"])
    classifier, given = Classifier(net), list[Tensor]()
    net.get_submodule("layers.0").register_forward_hook(lambda *args: given.append(args[2]))
    seen = classifier.observe(uniform(1, 3, 4, 4), ("layers.0", "logits"))
    assert len(given) == 1
    assert seen["layers.0"] is given[0]


def test_a_network_that_writes_runs_twice_only_once() -> None:
    net = built(["add", "relu"])
    classifier, runs = Classifier(net), list[object]()
    net.register_forward_pre_hook(lambda *_: runs.append(None))
    for _ in range(3):
        classifier.observe(uniform(1, 3, 4, 4), ("layers.0", "layers.1", "logits"))
    assert len(runs) == 4


def test_without_gradients_and_in_inference_mode_too() -> None:
    net = built(["add", "relu"])
    wanted = plain_look(net.eval(), image := uniform(1, 3, 4, 4))
    for mode in (torch.no_grad(), torch.inference_mode()):
        with mode:
            classifier = Classifier(copy.deepcopy(net), mean=(0,) * 3, std=(1,) * 3)
            seen = classifier.observe(image, ("layers.0", "layers.1", "logits"))
        for name, value in seen.items():
            torch.testing.assert_close(value, wanted[name], rtol=1e-12, atol=1e-12)


def test_a_perceptual_network_whose_parts_write_shows_its_layers() -> None:
    class Half(nn.Module):
        def forward(self, features: Tensor) -> Tensor:
            return features.mul_(0.5)

    with torch.random.fork_rng(devices=[]):
        stem = nn.Conv2d(3, 4, 1)
    parts = [
        Part("stem", stem, torch.ones(4), 1),
        Part("again", nn.Sequential(nn.ReLU(inplace=True), Half()), torch.ones(4), 1),
    ]
    net = PerceptualNet(parts).double()
    image = uniform(1, 3, 4, 4)
    seen = net.observe(image, ("stem", "again"))
    assert torch.equal(seen["stem"], net.observe(image, ("stem",))["stem"])
    torch.testing.assert_close(seen["again"], seen["stem"].relu() / 2)


@pytest.mark.parametrize("objective", [Attention(layer="layers.0"), Activation(layer="layers.0")])
def test_objectives_on_a_layer_that_is_written_to(objective: Attention | Activation) -> None:
    """Both as on a network that adds into a tensor of its own."""
    values = []
    for write in (lambda x, other: x + other, WRITES["add"]):
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(WRITES, "add", write)
            scene = setting(
                objective, make_scene(), models={"classifier": Classifier(built(["add"]))}
            )
            values.append(score(objective, scene, uniform(2, 3, 16, 20)))
    torch.testing.assert_close(values[0], values[1], rtol=1e-12, atol=1e-12)

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Callable
from functools import partial
from itertools import chain

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune

from invertkit.errors import RecipeError
from invertkit.models.classifiers.classifier import Classifier
from invertkit.models.classifiers.kitnet import KitNet
from invertkit.models.folding.folding import Folding, joined
from tests.helpers import tiny_perceptual, uniform
from tests.models.folding.networks import (
    Shared,
    assert_near,
    batch_norms_run,
    double_slope,
    lively,
    make,
    nets,
    norms_in,
)

# ---------------------------------------------------------------------- the arithmetic


@given(
    groups=st.sampled_from([1, 2, 4]),
    kernel=st.integers(1, 3),
    biased=st.booleans(),
    affine=st.booleans(),
    seed=st.integers(0, 1_000),
)
def test_one_convolution_does_what_two_layers_did(
    *, groups: int, kernel: int, biased: bool, affine: bool, seed: int
) -> None:
    draw = partial(uniform, seed=seed)
    conv = nn.Conv2d(4, 8, kernel, groups=groups, bias=biased, stride=2, padding=1).double()
    norm = nn.BatchNorm2d(8, affine=affine, eps=1e-2).double().eval()
    with torch.no_grad():
        for i, tensor in enumerate(chain(conv.parameters(), norm.parameters(), norm.buffers())):
            if tensor.is_floating_point():
                tensor.copy_(draw(*tensor.shape, seed=seed + i) + 0.1)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    images = draw(2, 4, 7, 6) - 0.5
    weight, bias = joined(
        conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.weight, norm.bias,
        epsilon=norm.eps,
    )  # fmt: skip
    found = F.conv2d(images, weight, bias, 2, 1, groups=groups)
    torch.testing.assert_close(found, norm(conv(images)), rtol=1e-12, atol=1e-12)


# ---------------------------------------------------------------------- the same network


@nets
def test_every_layer_shows_what_it_showed(name: str) -> None:
    """Alone, so that everything else is joined; of large networks one layer in five."""
    folding, plain, size = make(name)
    image = uniform(2, 3, size, size)
    own = [layer for layer, _ in plain.net.named_modules() if layer]
    layers = ["logits", *own, *(f"{layer}:input" for layer in own)]
    for layer in layers if len(layers) < 60 else layers[::5]:
        found, wanted = (each.observe(image, (layer,)) for each in (folding, plain))
        assert found.keys() == wanted.keys()
        for key, value in wanted.items():
            torch.testing.assert_close(found[key], value, rtol=1e-10, atol=1e-12, msg=layer)


@nets
def test_gradients_of_first_and_second_order_are_right(name: str) -> None:
    folding, plain, size = make(name)
    image = uniform(2, 3, size, size)
    for found, wanted in zip(
        double_slope(folding, image, "logits"), double_slope(plain, image, "logits"), strict=True
    ):
        assert_near(found, wanted)


def test_gradients_through_taps_are_right() -> None:
    folding, plain, size = make("kitnet")
    for layer in ("stem.1", "layer2.1.1:input", "layer2.2.first.1", "layer3"):
        pairs = (double_slope(each, uniform(2, 3, size, size), layer) for each in (folding, plain))
        for found, wanted in zip(*pairs, strict=True):
            assert_near(found, wanted)


@pytest.mark.parametrize(
    ("layers", "left"),
    [
        (("layer1", "logits"), 0),
        (("stem.1", "stem.2", "logits"), 0),
        (("stem.0", "logits"), 1),
        (("stem.1:input", "logits"), 1),
        (("stem.1:input", "layer3.2.second.0", "logits"), 2),
        (("stem.1:input",), 0),  # stops before it would be computed
        (("stem",), 0),
        (("layer1.1:input",), 0),
    ],
)
def test_a_pair_that_is_looked_into_stays_two(layers: tuple[str, ...], left: int) -> None:
    folding, _, _ = make("kitnet")
    assert norms_in(folding, layers) == left
    assert norms_in(folding, ("logits",)) == 0


def test_a_container_that_ends_in_a_convolution_shows_what_it_put_out() -> None:
    body = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3)), nn.Sequential(nn.BatchNorm2d(4)))
    folding = Classifier(lively(body))
    for layer, left in {
        "0": 1,
        "0.0": 1,
        "1:input": 1,
        "1.0:input": 1,
        "1": 0,
        "0:input": 0,
    }.items():
        assert norms_in(folding, (layer, "logits")) == left, layer
        seen = folding.observe(image := uniform(1, 3, 8, 8), (layer, "logits"))[layer]
        plain = Classifier(copy.deepcopy(body), fold=False).observe(image, (layer,))[layer]
        torch.testing.assert_close(seen, plain, rtol=1e-12, atol=1e-12)


def test_statistics_of_batch_norm_inputs_leave_nothing_joined() -> None:
    folding, plain, size = make("resnet18")
    layers = [f"{layer}:input" for layer in folding.batch_norms()]
    image = uniform(2, 3, size, size)
    found, wanted = folding.observe(image, layers), plain.observe(image, layers)
    assert all(torch.equal(found[layer], wanted[layer]) for layer in layers)


def test_a_stopped_forward_stops_where_it_stopped() -> None:
    folding, _, _ = make("kitnet")
    reached: list[str] = []
    image = uniform(1, 3, 32, 32)
    folding.observe(image, ("layer1",))
    for name in ("layer1", "layer2"):
        folding.layer(name).register_forward_hook(lambda *_, name=name: reached.append(name))
    folding.observe(image, ("layer1",))
    assert reached == ["layer1"]


def test_equal_calls_give_equal_bits() -> None:
    for name in ("kitnet", "timm"):
        folding, _, size = make(name)
        folding.float()
        image = uniform(2, 3, size, size, dtype=torch.float32)
        first = folding.observe(image, ("logits",))["logits"]
        folding.observe(image, ("conv_stem" if name == "timm" else "stem.0",))
        assert torch.equal(folding.observe(image, ("logits",))["logits"], first)
        assert torch.equal(copy.deepcopy(folding).observe(image, ("logits",))["logits"], first)


# ---------------------------------------------------------------------- nobody else notices


def test_the_network_itself_stays_as_it_was() -> None:
    folding, plain, size = make("timm")
    image = uniform(1, 3, size, size)
    before = dict(vars(folding.net))
    modules, state = list(folding.net.modules()), folding.state_dict(keep_vars=True)
    folding.observe(image, ("logits",))
    assert list(folding.net.modules()) == modules
    after = folding.state_dict(keep_vars=True)
    assert all(after[key] is value for key, value in state.items())
    assert vars(folding.net).keys() == before.keys()
    assert all("forward" not in vars(module) for module in modules)
    assert torch.equal(folding(image), plain(image))
    assert list(folding.batch_norms()) == list(plain.batch_norms())


def test_a_failing_forward_gives_everything_back() -> None:
    folding, plain, size = make("kitnet")
    image = uniform(1, 3, size, size)
    folding.observe(image, ("logits",))
    fc = folding.net.fc
    folding.net.fc = nn.Linear(3, 3).double()
    with pytest.raises(RecipeError, match="shapes"):
        folding.observe(image, ("logits",))
    folding.net.fc = fc
    assert torch.equal(folding(image), plain(image))


def test_nothing_is_held_twice_but_weights_of_convolutions() -> None:
    folding, _, size = make("resnet18")
    folding.observe(uniform(1, 3, size, size), ("logits",))
    folding.observe(uniform(1, 3, 96, 96), ("logits",))
    made = [w._faster for w in folding._folding._weights.values() if w._faster is not None]
    held = sum(tensor.numel() for pair in made for tensor in pair if tensor is not None)
    convs = [module for module in folding.net.modules() if isinstance(module, nn.Conv2d)]
    assert held == sum(conv.weight.numel() + conv.out_channels for conv in convs)


def test_copies_and_pickles_carry_no_second_weights() -> None:
    folding, plain, size = make("kitnet")
    image = uniform(1, 3, size, size)
    folding.observe(image, ("logits",))
    for other in (copy.deepcopy(folding), pickle.loads(pickle.dumps(folding))):
        assert not other._folding._weights
        other.net.stem[1].running_mean.add_(1)
        plain.net.stem[1].running_mean.copy_(other.net.stem[1].running_mean)
        assert_near(other.observe(image, ("logits",))["logits"], plain(image))
    assert pickle.loads(pickle.dumps(plain))._folding.enabled is False


def test_threads_take_turns() -> None:
    folding, plain, size = make("kitnet")
    image = uniform(1, 3, size, size)
    wanted = plain(image)
    faults: list[str] = []

    def look(layers: tuple[str, ...]) -> None:
        for _ in range(20):
            seen = folding.observe(image, layers)
            if set(layers) - set(seen) or not torch.allclose(folding(image), wanted, rtol=1e-12):
                faults.append(f"{layers}: {list(seen)}")

    threads = [
        threading.Thread(target=look, args=(layers,))
        for layers in (("stem",), ("layer2", "logits"), ("stem.0", "layer3"))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults


# ---------------------------------------------------------------------- what changes later


def set_weights(net: nn.Module) -> None:
    other = lively(KitNet(5, widths=(4, 4, 8, 8)))
    net.load_state_dict({key: value * 1.1 for key, value in other.state_dict().items()})


def assign_weights(net: nn.Module) -> None:
    state = {key: value * 1.1 for key, value in net.state_dict().items()}
    net.load_state_dict(state, assign=True)
    net.requires_grad_(False)


def replace_norm(net: nn.Module) -> None:
    net.stem[1] = nn.Identity()  # type: ignore[index,operator]


CHANGES: dict[str, tuple[Callable[[nn.Module], object], int]] = {
    "load_state_dict": (set_weights, 0),
    "assign": (assign_weights, 0),
    "statistics": (lambda net: net.stem[1].running_var.mul_(2), 0),
    "weight": (lambda net: net.stem[0].weight.mul_(-1), 0),
    "bias": (lambda net: net.stem[1].bias.add_(1), 0),
    "epsilon": (lambda net: setattr(net.stem[1], "eps", 0.5), 0),
    "new parameter": (
        lambda net: setattr(
            net.stem[0], "weight", nn.Parameter(net.stem[0].weight * 2, requires_grad=False)
        ),
        0,
    ),
    "new storage": (lambda net: setattr(net.stem[0].weight, "data", net.stem[0].weight * 2), 0),
    "new parameter in old storage": (
        lambda net: setattr(
            net.stem[0],
            "weight",
            nn.Parameter(net.stem[0].weight.data.mul_(2), requires_grad=False),
        ),
        0,
    ),
    "removed norm": (replace_norm, 0),
    "half and back": (lambda net: net.half().double(), 0),
    "training": (lambda net: net.stem[1].train(), 1),
    "hook on the convolution": (
        lambda net: net.stem[0].register_forward_hook(lambda m, i, out: out.abs()),
        1,
    ),
    "hook on the norm": (
        lambda net: net.stem[1].register_forward_pre_hook(lambda m, i: (i[0].abs(),)),
        1,
    ),
    "hook elsewhere": (lambda net: net.fc.register_forward_hook(lambda m, i, out: out + 1), 0),
    "pruned": (lambda net: prune.l1_unstructured(net.stem[0], "weight", 0.5), 1),
    "parametrised": (lambda net: parametrizations.weight_norm(net.stem[1], dim=None), 1),
    "another forward": (
        lambda net: setattr(net.stem[1], "forward", lambda x: x.tanh()),
        0,
    ),
    "gradients wanted": (lambda net: net.stem[1].requires_grad_(True), 1),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("before", [True, False])
def test_changes_to_the_network_are_followed(change: str, *, before: bool) -> None:
    folding, plain, size = make("kitnet")
    image = uniform(2, 3, size, size)
    if before:
        folding.observe(image, ("logits",))
    alter, left = CHANGES[change]
    for each in (folding, plain):
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            alter(each.net)
    found, wanted = (
        each.observe(image, ("logits",))["logits"].detach() for each in (folding, plain)
    )
    assert_near(found, wanted)
    if before:
        assert norms_in(folding) == left


def test_another_network_is_looked_at_anew() -> None:
    folding, plain, size = make("kitnet")
    image = uniform(1, 3, size, size)
    folding.observe(image, ("logits",))
    folding.net = Classifier(lively(Shared(tied=True))).net
    assert norms_in(folding) == 2
    folding.net = plain.net
    assert norms_in(folding) == 0
    assert_near(folding.observe(image, ("logits",))["logits"], plain(image))


def test_weights_that_take_gradients_get_them() -> None:
    folding, plain, size = make("kitnet")
    image = uniform(1, 3, size, size)
    folding.observe(image, ("logits",))
    for each in (folding, plain):
        each.net.requires_grad_(True)
        each.observe(image, ("logits",))["logits"].square().sum().backward()
    for ours, wanted in zip(folding.net.parameters(), plain.net.parameters(), strict=True):
        assert ours.grad is not None
        assert_near(ours.grad, wanted.grad)  # type: ignore[arg-type]
    folding.float().observe(image.float(), ("logits",))
    assert all(weight.is_contiguous() for weight in folding.net.parameters())


def test_moving_the_classifier_drops_what_was_made() -> None:
    folding, plain, size = make("kitnet")
    image = uniform(1, 3, size, size)
    folding.observe(image, ("logits",))
    folding.float()
    assert not folding._folding._weights
    found = folding.observe(image.float(), ("logits",))["logits"]
    torch.testing.assert_close(found.double(), plain(image), rtol=1e-4, atol=1e-4)
    folding.net.double()  # behind the classifier's back
    wanted = plain.float().double()(image)
    assert_near(folding.observe(image, ("logits",))["logits"], wanted)


def test_a_perceptual_trunk_of_a_classifier_is_joined_too() -> None:
    net = tiny_perceptual()
    image = uniform(1, 3, 32, 32)
    with batch_norms_run() as calls:
        net._folding.enabled = False
        wanted = net.observe(image, net.default_layers)
        assert len(calls) == 8
        net._folding.enabled = True
        net.observe(image, net.default_layers)
        calls.clear()
        found = net.observe(image, net.default_layers)
        assert not calls
    for layer, features in wanted.items():
        assert_near(found[layer], features)


# ---------------------------------------------------------------------- what is left alone


def test_a_size_that_a_network_refuses_spoils_no_other() -> None:
    folding, plain, size = make("unruly")
    with pytest.raises(RecipeError, match="shapes"):
        folding.observe(uniform(1, 3, 9, 9), ("logits",))
    image = uniform(1, 3, size, size)
    assert norms_in(folding, size=size) == 0
    assert_near(folding.observe(image, ("logits",))["logits"], plain(image))


def test_code_that_needs_a_memory_layout_keeps_it() -> None:
    folding, plain, size = make("unruly")
    folding.float()
    image = uniform(2, 3, size, size)
    found = folding.observe(image.float(), ("logits",))["logits"]
    torch.testing.assert_close(found.double(), plain(image), rtol=1e-3, atol=1e-3)
    assert norms_in_float(folding, image.float()) == 0


def norms_in_float(classifier: Classifier, image: Tensor) -> int:
    with batch_norms_run() as calls:
        classifier.observe(image, ("logits",))
    return len(calls)


def test_weights_lie_channels_last_in_float32_on_a_cpu_only() -> None:
    folding, _, size = make("kitnet")
    image = uniform(1, 3, size, size)
    assert folding.observe(image, ("stem.0",))["stem.0"].is_contiguous()
    folding.float()
    for layer in ("stem.0", "stem"):  # alone, and with its batch norm
        seen = folding.observe(image.float(), (layer,))[layer]
        assert seen.is_contiguous(memory_format=torch.channels_last)
    assert folding.net.stem[0].weight.is_contiguous()


def test_a_watched_network_runs_as_often_as_it_is_asked_to() -> None:
    folding, _, size = make("kitnet")
    runs: list[int] = []
    handle = folding.net.register_forward_pre_hook(lambda *_: runs.append(1))
    for _ in range(3):
        folding.observe(uniform(1, 3, size, size), ("logits",))
    assert len(runs) == 3
    handle.remove()
    assert norms_in(folding) == 0


def test_off_means_off() -> None:
    plain, _, size = make("kitnet")
    plain._folding = Folding(enabled=False)
    assert norms_in(plain) == 8
    image = uniform(1, 3, size, size)
    assert torch.equal(plain.observe(image, ("logits",))["logits"], plain(image))


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_a_first_look_without_gradients_serves_later_ones(
    context: Callable[[], torch.no_grad],
) -> None:
    folding, plain, size = make("kitnet")
    with context():
        folding.observe(uniform(1, 3, size, size), ("logits",))
    image = uniform(1, 3, size, size)
    for found, wanted in zip(
        double_slope(folding, image, "logits"), double_slope(plain, image, "logits"), strict=True
    ):
        assert_near(found, wanted)
    assert norms_in(folding) == 0


def test_functional_transforms_see_the_same_function() -> None:
    folding, plain, size = make("kitnet")
    image = uniform(2, 3, size, size)

    def value(classifier: Classifier, image: Tensor) -> Tensor:
        return classifier.observe(image[None], ("logits",))["logits"].square().sum()

    found, wanted = (
        torch.func.vmap(torch.func.grad(partial(value, each)))(image) for each in (folding, plain)
    )
    assert_near(found, wanted)
    assert_near(folding.observe(image, ("logits",))["logits"], plain(image))

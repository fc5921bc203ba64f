from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from invertkit.core.pixel_space import IMAGENET_MEAN, IMAGENET_STD
from invertkit.errors import TapError
from invertkit.models.classifiers.classifier import Classifier
from invertkit.models.classifiers.kitnet import KitNet
from tests.helpers import LAYERS, SIZE, same, tiny_classifier, uniform


def test_images_are_normalised_by_the_classifier_itself(classifier: Classifier) -> None:
    images = uniform(2, 3, *SIZE)
    rows = [(images[:, c] - IMAGENET_MEAN[c]) / IMAGENET_STD[c] for c in range(3)]
    by_hand = classifier.net(torch.stack(rows, 1))
    # the buffers were made in float32
    torch.testing.assert_close(classifier(images), by_hand, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(
        classifier.observe(images, ("logits",))["logits"], classifier(images)
    )
    own = Classifier(nn.Flatten(), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)).double()
    torch.testing.assert_close(own(images), (images * 2 - 1).flatten(1))


def test_layers_are_what_a_plain_forward_passes_through(classifier: Classifier) -> None:
    images, net = uniform(2, 3, *SIZE), classifier.net
    features, wanted = classifier.normalized(images), {}
    for name in LAYERS:
        wanted[f"{name}:input"] = features
        features = wanted[name] = getattr(net, name)(features)
    wanted["logits"] = wanted["fc"] = net.fc(features.mean((2, 3)))
    seen = classifier.observe(images, wanted)
    assert seen.keys() == wanted.keys()
    plain = Classifier(copy.deepcopy(net), fold=False)
    for name, features in wanted.items():
        torch.testing.assert_close(seen[name], features, rtol=1e-12, atol=1e-12)
        assert torch.equal(classifier.observe(images, (name,))[name], seen[name])
        assert torch.equal(plain.observe(images, (name,))[name], features)


def test_nothing_asked_for_means_the_logits(classifier: Classifier) -> None:
    images = uniform(1, 3, *SIZE)
    seen = classifier.observe(images, ())
    assert seen.keys() == {"logits"}
    torch.testing.assert_close(seen["logits"], classifier(images))


def test_an_in_place_activation_does_not_change_the_layer_before_it() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(inplace=True), nn.ReLU6(inplace=True))
    classifier = Classifier(net).double()
    images = uniform(1, 3, 4, 4)
    first = net[0](classifier.normalized(images))
    assert torch.equal(classifier.observe(images, ("0",))["0"], first)
    assert classifier.observe(images, ("0", "1", "2"))["0"].min() < 0


def test_it_is_frozen_and_in_evaluation_mode(classifier: Classifier) -> None:
    assert not any(module.training for module in classifier.net.modules())
    assert not any(weight.requires_grad for weight in classifier.parameters())
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    images = uniform(2, 3, *SIZE).requires_grad_()
    classifier(images).sum().backward()
    assert same(before, dict(classifier.state_dict()))
    assert images.grad is not None
    assert images.grad.any()


def test_the_gradient_flows_through_taps_of_a_stopped_forward(classifier: Classifier) -> None:
    def slope(layers: tuple[str, ...]) -> Tensor:
        images = uniform(1, 3, *SIZE).requires_grad_()
        seen = classifier.observe(images, layers)
        (found,) = torch.autograd.grad(seen["layer1"].square().sum(), images)
        return found

    assert torch.equal(slope(("layer1",)), slope(("layer1", "logits")))


@pytest.mark.parametrize(("wrong", "near"), [("layer4", "layer3"), ("stam", "stem"), ("fcc", "fc")])
def test_an_unknown_layer_is_named_with_a_suggestion(
    wrong: str, near: str, classifier: Classifier
) -> None:
    for name in (wrong, f"{wrong}:input"):
        with pytest.raises(
            TapError, match=rf"a tiny network has no layer {wrong!r}.*Did you mean {near}|{near!r}"
        ):
            classifier.observe(uniform(1, 3, *SIZE), (name,))
        with pytest.raises(TapError, match="outermost layers are: stem, layer1"):
            classifier.resolve((name,))
    with pytest.raises(TapError, match="has no layer ''"):
        classifier.layer("")


def test_a_layer_by_an_attribute_that_is_no_child_is_found() -> None:
    """As `nn.Module.get_submodule` finds it."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential())

        @property
        def first(self) -> nn.Module:
            return self.body[0]

        def forward(self, image: Tensor) -> Tensor:
            return self.body(image)

    classifier = Classifier(Net()).double()
    image = uniform(1, 3, 4, 4)
    seen = classifier.observe(image, ("first", "body.0", "body.1"))
    assert torch.equal(seen["first"], seen["body.0"])
    assert torch.equal(seen["body.1"], seen["body.0"])


def test_default_stands_for_the_networks_own_layers(classifier: Classifier) -> None:
    assert classifier.resolve(("default",)) == LAYERS
    assert classifier.resolve(("fc", "default", "stem:input")) == ("fc", *LAYERS, "stem:input")
    assert Classifier(nn.Sequential(nn.Conv2d(3, 2, 1))).resolve(("default",)) == ()


def test_batch_norms_come_in_forward_order_and_only_with_statistics(
    classifier: Classifier,
) -> None:
    names = list(classifier.batch_norms())
    assert len(names) == 8
    order: list[str] = []
    for name, module in classifier.batch_norms().items():
        module.register_forward_hook(lambda *_, name=name: order.append(name))
    classifier(uniform(1, 3, *SIZE))
    assert names == order
    bare = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2, track_running_stats=False))
    assert not Classifier(bare).batch_norms()
    others = nn.Sequential(nn.SyncBatchNorm(3), FrozenBatchNorm2d(3), nn.InstanceNorm2d(3))
    assert list(Classifier(others).batch_norms()) == ["0", "1"]


def test_weights_travel_as_plain_tensors(classifier: Classifier) -> None:
    other = Classifier(KitNet(5, widths=(4, 4, 8, 8))).double()
    other.load_state_dict(classifier.state_dict())
    images = uniform(1, 3, *SIZE)
    assert torch.equal(other(images), classifier(images))


def test_kitnet_layers_have_the_sizes_it_says() -> None:
    images = uniform(1, 3, 64, 64, dtype=torch.float32)
    seen = tiny_classifier(torch.float32).observe(images, LAYERS)
    assert [seen[name].shape[-1] for name in LAYERS] == [32, 32, 16, 8]
    assert [seen[name].shape[1] for name in LAYERS] == [4, 4, 8, 8]
    smallest = uniform(1, 3, 16, 16, dtype=torch.float32)
    assert tiny_classifier(torch.float32)(smallest).shape == (1, 5)

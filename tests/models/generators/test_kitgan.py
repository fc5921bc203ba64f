from __future__ import annotations

import pytest
import torch

from invertkit.models.generators.kitgan import ClassHead, KitDiscriminator
from invertkit.models.generators.projected import baked
from tests.helpers import normal, uniform
from tests.models.generators.test_conditional import made


def discriminator(*, spectral: bool = True) -> KitDiscriminator:
    net = made(lambda: KitDiscriminator(3, widths=(4, 6, 8, 10), spectral=spectral))
    assert isinstance(net, KitDiscriminator)
    return net


def test_a_baked_discriminator_is_the_spectral_one_with_plain_weights() -> None:
    net, images, labels = discriminator(), uniform(8, 3, 16, 16) * 2 - 1, torch.arange(8) // 4
    plain = baked(net)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    torch.testing.assert_close(plain(images, labels), net(images, labels), rtol=1e-5, atol=1e-5)
    assert not any("parametrizations" in name for name in plain.state_dict())
    assert any("parametrizations" in name for name in net.state_dict())
    empty = discriminator(spectral=False)
    empty.load_state_dict(plain.state_dict())  # what the weights file is read into
    assert torch.equal(empty(images, labels), plain(images, labels))
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name])
    weight = plain.block1[0].weight
    assert torch.linalg.matrix_norm(weight.flatten(1), 2) < 1.5


@pytest.mark.parametrize("shape", [(16, 16), (32, 32), (20, 24)])
def test_the_discriminator_scores_pictures_of_many_sizes(shape: tuple[int, int]) -> None:
    scores = discriminator()(uniform(4, 3, *shape), torch.zeros(4, dtype=torch.long))
    assert scores.shape == (4,)
    assert scores.isfinite().all()


def test_the_head_is_the_projection_and_the_spread_of_a_group() -> None:
    head = made(lambda: ClassHead(6, 3, group=2, spectral=False))
    features, labels = normal(4, 6, 3, 3), torch.tensor([0, 0, 2, 2])
    summed = features.clamp(min=0).float().sum((2, 3)).double()
    found = made(lambda: ClassHead(6, 3, group=2, spectral=False)).float()(features.float(), labels)
    for i in range(4):
        first = 2 * (i // 2)
        pair = summed[first : first + 2]
        spread = (((pair - pair.mean(0)) ** 2).mean(0) + 1e-6).sqrt()
        wanted = (
            summed[i] @ head.linear.weight[0] + head.linear.bias[0]
            + spread @ head.spread.weight[0] + head.spread.bias[0]
            + head.embedding.weight[labels[i]] @ summed[i]
        )  # fmt: skip
        assert float(found[i]) == pytest.approx(float(wanted), rel=1e-4, abs=1e-4)


def test_other_groups_of_a_batch_do_not_matter() -> None:
    net, images, labels = discriminator(), uniform(8, 3, 16, 16), torch.arange(8) // 4
    torch.testing.assert_close(net(images[4:], labels[4:]), net(images, labels)[4:])

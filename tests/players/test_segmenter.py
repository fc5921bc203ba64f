from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from invertkit.errors import InputError
from invertkit.models.patch_nets import EncoderDecoder
from invertkit.players.segmenter import Segmenter
from invertkit.randomness import Randomness
from invertkit.view import Scene
from tests.helpers import make_scene, same, through_a_file, tiny_segmenter, uniform


def coloured() -> Scene:
    """An object that is red on green."""
    scene = make_scene(dtype=torch.float32)
    assert scene.mask is not None
    red, green = torch.eye(3)[:2].reshape(2, 1, 3, 1, 1)
    return Scene(scene.size, scene.mask * red + (1 - scene.mask) * green, scene.mask, scene.target)


def begun(segmenter: Segmenter, seeds: tuple[int, ...] = (0,)) -> Segmenter:
    segmenter.begin(coloured(), Randomness(seeds), purpose="players/segmenter")
    return segmenter


def loss(segmenter: Segmenter, image: Tensor | None = None) -> float:
    scene = coloured()
    image = scene.reference if image is None else image
    assert image is not None
    assert scene.mask is not None
    return F.binary_cross_entropy_with_logits(segmenter.logits(image), scene.mask).item()


def updates_taken(segmenter: Segmenter) -> int:
    assert segmenter._optimizer is not None
    state = segmenter._optimizer.state_dict()["state"]
    return int(state[0]["step"]) if state else 0


def test_it_learns_where_the_object_is() -> None:
    untrained = begun(tiny_segmenter(when="before", updates=0))
    trained = begun(tiny_segmenter(when="before", updates=150, lr=1e-2))
    assert loss(trained) < 0.6 * loss(untrained)
    scene = coloured()
    assert scene.reference is not None
    assert scene.mask is not None
    logits = trained.logits(scene.reference)
    assert logits.shape == (1, 1, *scene.size)
    assert logits[scene.mask == 1].mean() > logits[scene.mask == 0].mean()


def test_before_means_before_the_first_step_of_every_stage() -> None:
    segmenter = begun(tiny_segmenter(when="before", updates=3))
    assert updates_taken(segmenter) == 3
    learnt = through_a_file(segmenter.save()["net"])
    segmenter.learn(uniform(1, 3, 16, 20, dtype=torch.float32), step=0)
    assert same(learnt, through_a_file(segmenter.save()["net"]))
    begun(segmenter)
    assert updates_taken(segmenter) == 3  # by a fresh optimizer, on the network as it was
    assert not same(learnt, through_a_file(segmenter.save()["net"]))


def test_during_means_on_each_of_the_first_steps() -> None:
    segmenter = begun(tiny_segmenter(when="during", updates=3))
    images = uniform(1, 3, 16, 20, dtype=torch.float32)
    counts = []
    for step in range(6):
        segmenter.learn(images, step=step)
        counts.append(updates_taken(segmenter))
    assert counts == [1, 2, 3, 3, 3, 3]


def test_the_released_schedule_takes_9999_updates(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []
    monkeypatch.setattr(Segmenter, "_update", lambda self: taken.append(1))
    segmenter = begun(tiny_segmenter(when="during", updates=9999))
    for step in range(18000):
        segmenter.learn(torch.empty(0), step=step)
    assert len(taken) == 9999


def test_every_image_meets_the_same_network_whatever_its_seed() -> None:
    one, other = begun(tiny_segmenter(), (3,)), begun(tiny_segmenter(), (4, 5))
    assert same(one.save()["net"], other.save()["net"])
    assert not same(one.save()["net"], begun(tiny_segmenter(seed=1)).save()["net"])
    images = uniform(3, 3, 16, 20, dtype=torch.float32)
    torch.testing.assert_close(one.logits(images)[1:2], one.logits(images[1:2]))


def test_released_statistics_are_shared_by_the_batch() -> None:
    segmenter = begun(tiny_segmenter(norm="batch"))
    images = uniform(3, 3, 16, 20, dtype=torch.float32)
    assert not torch.allclose(segmenter.logits(images)[1:2], segmenter.logits(images[1:2]))


@pytest.mark.parametrize("when", ["before", "during"])
def test_its_weights_take_no_gradient_outside_its_updates(when: str) -> None:
    segmenter = begun(tiny_segmenter(when=when, updates=2))
    segmenter.learn(uniform(1, 3, 16, 20, dtype=torch.float32), step=0)
    assert segmenter.net is not None
    assert not any(weight.requires_grad for weight in segmenter.net.parameters())


def test_what_it_needs_is_said() -> None:
    scene = coloured()
    for missing in (
        Scene(scene.size, None, scene.mask, scene.target),
        Scene(scene.size, scene.reference, None, scene.target),
    ):
        with pytest.raises(InputError, match="give both"):
            Segmenter().begin(missing, Randomness((0,)), purpose="s")
    with pytest.raises(InputError, match="before its stage began"):
        Segmenter().logits(torch.zeros(1, 3, 16, 16))


def test_the_map_has_the_size_of_the_image_and_sees_thirteen_pixels() -> None:
    net = EncoderDecoder(width=2, norm="none").double()
    image = uniform(1, 3, 31, 32).requires_grad_()
    logits = net(image)
    assert logits.shape == (1, 1, 31, 32)
    (slope,) = torch.autograd.grad(logits[0, 0, 15, 15], image)
    seen = slope[0].abs().sum(0).nonzero()
    assert seen.min(0).values.tolist() == [9, 9]
    assert seen.max(0).values.tolist() == [21, 21]


def test_the_smallest_side_it_takes() -> None:
    net = EncoderDecoder(width=2)
    assert net(torch.rand(1, 3, 8, 8, generator=torch.Generator())).shape == (1, 1, 8, 8)

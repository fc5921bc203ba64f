from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from invertkit.core.randomness import Randomness
from invertkit.core.recording.tape import record
from invertkit.core.scene import Scene
from invertkit.errors import InputError
from invertkit.models.segmenters.encoder_decoder import EncoderDecoder
from invertkit.models.stacked.normed_leaky import NormKind
from invertkit.models.stacked.stack import Stack
from invertkit.players.segmenter import Segmenter
from tests.helpers import (
    make_scene,
    same,
    scene_of,
    through_a_file,
    tiny_segmenter,
    uniform,
)
from tests.players.plain import assert_same_network, learnt, plain


def coloured() -> Scene:
    """An object that is red on green."""
    scene = make_scene(dtype=torch.float32)
    red, green = torch.eye(3)[:2].reshape(2, 1, 3, 1, 1)
    return scene_of(
        scene.size,
        scene.inputs["mask"] * red + (1 - scene.inputs["mask"]) * green,
        scene.inputs["mask"],
        scene.inputs["target"],
    )


def begun(segmenter: Segmenter, seeds: tuple[int, ...] = (0,)) -> Segmenter:
    segmenter.begin(coloured(), Randomness(seeds), purpose="players/segmenter")
    return segmenter


def loss(segmenter: Segmenter, image: Tensor | None = None) -> float:
    scene = coloured()
    image = scene.reference if image is None else image
    assert image is not None
    return F.binary_cross_entropy_with_logits(segmenter.logits(image), scene.inputs["mask"]).item()


def updates_taken(segmenter: Segmenter) -> int:
    assert segmenter._optimizer is not None
    state = segmenter._optimizer.state
    return int(state[2]) if state else 0  # mean, square and count of the first tensor


def test_it_learns_where_the_object_is() -> None:
    untrained = begun(tiny_segmenter(when="before", updates=0))
    trained = begun(tiny_segmenter(when="before", updates=150, lr=1e-2))
    assert loss(trained) < 0.6 * loss(untrained)
    scene = coloured()
    assert scene.reference is not None
    logits = trained.logits(scene.reference)
    assert logits.shape == (1, 1, *scene.size)
    assert logits[scene.inputs["mask"] == 1].mean() > logits[scene.inputs["mask"] == 0].mean()


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
        segmenter.learn(torch.empty(0, 3, 1, 1), step=step)
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


def scene_with(references: int, masks: int) -> Scene:
    """Photographs and masks, one or one for each image, in float64."""
    size, scene = (12, 13), make_scene((12, 13))
    images = max(references, masks)
    return scene_of(
        size,
        uniform(references, 3, *size, seed=1),
        (uniform(masks, 1, *size, seed=2) > 0.6).double(),
        scene.inputs["target"],
        owners=tuple(range(images)) if images > 1 else (),
    )


def rows(tensor: Tensor | None, i: int) -> Tensor:
    assert tensor is not None
    return tensor[i : i + 1] if len(tensor) > 1 else tensor


def begun_on(scene: Scene, images: int, **options: Any) -> Segmenter:
    """In float64, with weights large enough for the norms to matter."""
    segmenter = tiny_segmenter(lr=1e-2, **options)
    segmenter.begin(scene, Randomness(tuple(range(images))), purpose="players/segmenter")
    assert segmenter.net is not None
    with torch.no_grad():
        for layer in segmenter.net.stack:
            layer.weight.mul_(4)
    segmenter.net.double()
    return segmenter


@given(
    norm=st.sampled_from(["instance", "batch"]),
    rows_of=st.sampled_from([(1, 1), (3, 1), (1, 3), (3, 3)]),
    way=st.sampled_from(["joined", "apart"]),
)
def test_every_network_learns_what_plain_autograd_teaches_it_alone(
    norm: NormKind, rows_of: tuple[int, int], way: str
) -> None:
    """One network while there is one photograph and one mask, else one for each image."""
    scene = scene_with(*rows_of)
    segmenter, count = begun_on(scene, 3, norm=norm), max(rows_of)
    assert segmenter.net is not None
    assert segmenter.net.networks == count
    alone = [plain(segmenter.net, i) for i in range(count)]
    with pytest.MonkeyPatch.context() as patch:
        if way == "joined":
            patch.setattr(Stack, "one_by_one", lambda self, device: False)
        for step in range(3):
            segmenter.learn(uniform(3, 3, 12, 13), step=step)
    for i, start in enumerate(alone):
        image, mask = rows(scene.reference, i), rows(scene.inputs["mask"], i)

        def loss(net: Any, image: Tensor = image, mask: Tensor = mask) -> Tensor:
            return F.binary_cross_entropy_with_logits(net(image), mask)

        assert_same_network(segmenter.net, i, learnt(start, [loss] * 3, lr=1e-2))


@pytest.mark.parametrize("norm", ["instance", "batch"])
@pytest.mark.parametrize("way", ["joined", "apart"])
def test_with_photographs_of_their_own_images_do_not_meet(norm: NormKind, way: str) -> None:
    scene, images = scene_with(3, 3), uniform(3, 3, 12, 13)
    one = scene_of(
        scene.size, rows(scene.reference, 1), rows(scene.inputs["mask"], 1), scene.inputs["target"]
    )
    together, alone = begun_on(scene, 3, norm=norm), begun_on(one, 1, norm=norm)
    assert together.net is not None
    assert alone.net is not None
    for step in range(3):
        alone.learn(images[1:2], step=step)
    with pytest.MonkeyPatch.context() as patch:
        if way == "joined":
            patch.setattr(Stack, "one_by_one", lambda self, device: False)
        for step in range(3):
            together.learn(images, step=step)
        found = together.logits(images)[1:2]
    for ours, theirs in zip(together.net.learnt(), alone.net.learnt(), strict=True):
        torch.testing.assert_close(ours[1:2], theirs, rtol=1e-10, atol=1e-10)
        assert way == "joined" or torch.equal(ours[1:2], theirs)
    torch.testing.assert_close(found, alone.logits(images[1:2]), rtol=1e-10, atol=1e-10)
    assert not torch.allclose(together.net.stack[0].weight[0], together.net.stack[0].weight[1])


@pytest.mark.parametrize("when", ["before", "during"])
@pytest.mark.parametrize("updates", [0, 2, 4])
def test_its_phase_says_whether_a_step_changes_it(when: str, updates: int) -> None:
    segmenter = begun(tiny_segmenter(when=when, updates=updates))
    for step in range(6):
        before = through_a_file(segmenter.save())
        segmenter.learn(torch.empty(0, 3, 1, 1), step=step)
        assert same(before, through_a_file(segmenter.save())) is not segmenter.phase(step).key


@pytest.mark.parametrize("masks", [1, 2])
def test_an_update_can_be_recorded_and_replayed(masks: int) -> None:
    scene = scene_with(1, masks)
    one, other = (begun_on(scene, 2, updates=9) for _ in range(2))
    for step in range(5):
        other.learn(torch.empty(0, 3, 1, 1), step=step)
    one.learn(torch.empty(0, 3, 1, 1), step=0)
    tape = record(lambda: one.learn(torch.empty(0, 3, 1, 1), step=1))
    for _ in range(3):
        tape.replay()
    assert same(one.save(), other.save())
    assert not one.obstacle


def test_it_goes_on_from_a_file_as_if_never_stopped() -> None:
    whole, first, second = (begun(tiny_segmenter(updates=9)) for _ in range(3))
    for step in range(4):
        whole.learn(torch.empty(0, 3, 1, 1), step=step)
        if step < 2:
            first.learn(torch.empty(0, 3, 1, 1), step=step)
    saved = first.save()
    first.learn(torch.empty(0, 3, 1, 1), step=2)  # what was saved stays as it was
    second.load(through_a_file(saved))
    for step in (2, 3):
        second.learn(torch.empty(0, 3, 1, 1), step=step)
    assert same(whole.save(), second.save())
    assert not same(whole.save(), first.save())


@pytest.mark.parametrize("when", ["before", "during"])
def test_its_weights_take_no_gradient_outside_its_updates(when: str) -> None:
    segmenter = begun(tiny_segmenter(when=when, updates=2))
    segmenter.learn(uniform(1, 3, 16, 20, dtype=torch.float32), step=0)
    assert segmenter.net is not None
    assert not any(weight.requires_grad for weight in segmenter.net.parameters())


def test_what_it_needs_is_said() -> None:
    scene = coloured()
    for missing in (
        scene_of(scene.size, None, scene.inputs["mask"], scene.inputs["target"]),
        scene_of(scene.size, scene.reference, None, scene.inputs["target"]),
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

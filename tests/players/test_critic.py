from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any, Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from invertkit.errors import InputError
from invertkit.models.patch_nets import EncoderDecoder, ImageNorm, PatchCriticNet, receptive_field
from invertkit.players.critic import PatchCritic, critic_loss, gradient_penalty
from invertkit.randomness import Randomness
from invertkit.view import Scene
from tests.helpers import make_scene, normal, same, through_a_file, tiny_critic, uniform

Form = Literal["pixel", "sample"]
forms = pytest.mark.parametrize("form", ["pixel", "sample"])
MAGIC = {"kernels": (4, 4, 4, 3, 1), "strides": (1, 2, 2, 1, 1)}
IMAGINE = {"kernels": (3, 3, 3, 3, 1), "strides": (1,) * 5, "widths": (128,) * 4}


def linear_critic(weights: Tensor) -> Callable[[Tensor], Tensor]:
    """Scores every pixel by w·x."""
    return lambda images: (images * weights.reshape(1, 3, 1, 1)).sum(1, keepdim=True)


def begun(critic: PatchCritic, seeds: tuple[int, ...] = (0,)) -> PatchCritic:
    critic.begin(make_scene(dtype=torch.float32), Randomness(seeds), purpose="players/critic")
    return critic


def pictures(batch: int, seed: int = 0) -> Tensor:
    return uniform(batch, 3, 16, 20, seed=seed, dtype=torch.float32)


# ---------------------------------------------------------------------- the penalty and the loss


@given(seed=st.integers(0, 99), length=st.floats(0, 4))
def test_the_pixel_penalty_of_a_linear_critic_is_known(seed: int, length: float) -> None:
    weights = normal(3, seed=seed)
    weights = length * weights / weights.norm()
    found = gradient_penalty(linear_critic(weights), uniform(2, 3, 4, 5), form="pixel")
    assert found.item() == pytest.approx((length - 1) ** 2)


@given(seed=st.integers(0, 99))
def test_the_sample_penalty_of_a_linear_critic_is_known(seed: int) -> None:
    """The gradient of the mean score is w/(hw) at each of hw pixels: its length is ‖w‖/√(hw)."""
    weights = normal(3, seed=seed)
    found = gradient_penalty(linear_critic(weights), uniform(2, 3, 4, 5), form="sample")
    assert found.item() == pytest.approx((weights.norm().item() / 20**0.5 - 1) ** 2)


@forms
def test_a_critic_of_slope_one_is_not_penalised(form: Form) -> None:
    length = 1.0 if form == "pixel" else 20**0.5
    critic = linear_critic(torch.tensor([0.0, length, 0.0], dtype=torch.float64))
    assert gradient_penalty(critic, uniform(2, 3, 4, 5), form=form).item() == pytest.approx(0)


@forms
def test_the_penalty_equals_a_slow_loop(form: Form) -> None:
    net = PatchCriticNet(
        kernels=(3, 2, 1), strides=(1, 2, 1), widths=(4, 4), norm="instance",
        generator=torch.Generator().manual_seed(1),
    ).double()  # fmt: skip
    with torch.no_grad():
        for weight in net.parameters():
            weight.mul_(5)
    images, total, count = uniform(2, 3, 8, 9), 0.0, 0
    for image in images:
        leaf = image[None].clone().requires_grad_()
        scores = net(leaf)
        divisor = 1 if form == "pixel" else scores.numel()
        (slope,) = torch.autograd.grad(scores.sum() / divisor, leaf)
        if form == "sample":
            total += (sum(s * s for s in slope.flatten().tolist()) ** 0.5 - 1) ** 2
            count += 1
            continue
        for y, x in product(range(8), range(9)):
            length = sum(s * s for s in slope[0, :, y, x].tolist()) ** 0.5
            total += (length - 1) ** 2
            count += 1
    found = gradient_penalty(net, images, form=form)
    assert found.item() == pytest.approx(total / count)
    assert found.requires_grad


@forms
def test_the_penalty_can_be_differentiated_with_respect_to_the_critic(form: Form) -> None:
    def penalty(weights: Tensor) -> Tensor:
        def critic(images: Tensor) -> Tensor:
            return (images.square() * weights.reshape(1, 3, 1, 1)).sum(1, keepdim=True)

        return gradient_penalty(critic, uniform(2, 3, 3, 3) + 0.1, form=form)

    weights = normal(3, seed=5).requires_grad_()
    assert torch.autograd.gradcheck(penalty, weights)


def test_the_loss_is_low_where_the_critic_prefers_the_reference() -> None:
    critic = linear_critic(torch.ones(3, dtype=torch.float64))
    mix = torch.full((1, 1, 1, 1), 0.5, dtype=torch.float64)
    bright, dark = torch.ones(1, 3, 4, 4).double(), torch.zeros(1, 3, 4, 4).double()
    assert critic_loss(critic, bright, dark, mix, penalty=0).item() == pytest.approx(-3)
    assert critic_loss(critic, dark, bright, mix, penalty=0).item() == pytest.approx(3)


@forms
def test_the_loss_is_the_difference_of_means_and_the_penalty_between(form: Form) -> None:
    net = PatchCriticNet(
        kernels=(3, 1), strides=(1, 1), widths=(4,), generator=torch.Generator().manual_seed(2)
    ).double()
    real, fake = uniform(1, 3, 6, 6, seed=1), uniform(2, 3, 6, 6, seed=2)
    mix = torch.tensor([0.25, 0.75], dtype=torch.float64).reshape(2, 1, 1, 1)
    between = torch.cat([0.25 * real + 0.75 * fake[:1], 0.75 * real + 0.25 * fake[1:]])
    wanted = net(fake).mean() - net(real).mean()
    wanted = wanted + 0.7 * gradient_penalty(net, between, form=form)
    found = critic_loss(net, real, fake, mix, penalty=0.7, form=form)
    torch.testing.assert_close(found, wanted)


def test_no_gradient_reaches_the_image() -> None:
    """The penalty is taken at a fresh leaf, and `learn` gets images without a graph."""
    images = pictures(2).requires_grad_()
    critic = begun(tiny_critic(), (0, 1))
    critic.learn(images.detach(), step=0)
    assert images.grad is None
    between = uniform(1, 3, 6, 6).requires_grad_()
    penalty = gradient_penalty(linear_critic(normal(3)), between, form="pixel")
    with pytest.raises(RuntimeError):
        torch.autograd.grad(penalty, between)


# ---------------------------------------------------------------------- the player


def test_learning_separates_the_image_from_the_reference() -> None:
    critic = begun(tiny_critic(lr=1e-2, updates=20))
    images, reference = pictures(1), make_scene(dtype=torch.float32).reference
    assert reference is not None

    def gap() -> float:
        return float(critic.scores(images).mean() - critic.scores(reference * 0.5).mean())

    scene = make_scene(dtype=torch.float32)
    dark = Scene(scene.size, reference * 0.5, scene.mask, scene.target)
    critic.begin(dark, Randomness((0,)), purpose="players/critic")
    before = gap()
    critic.learn(images, step=0)
    assert gap() < before - 0.01


def updates_taken(critic: PatchCritic) -> list[int]:
    """Of every net, as its Adam counts them."""
    states = [optimizer.state_dict()["state"] for optimizer in critic._optimizers]
    return [int(state[0]["step"]) if state else 0 for state in states]


def test_the_released_schedule_begins_at_iteration_5005_and_takes_2600_updates(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    learnt: list[int] = []
    critic = begun(tiny_critic(start=5000, every=5))

    def spy(*args: Any, **kwargs: Any) -> Tensor:
        learnt.append(now)
        return torch.zeros((), requires_grad=True)

    monkeypatch.setattr("invertkit.players.critic.critic_loss", spy)
    images = pictures(1)
    for now in range(18000):
        critic.learn(images, step=now)
    assert learnt[0] == 5004  # its 1-based number is 5005
    assert {step % 5 for step in learnt} == {4}
    assert len(learnt) == 2600


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({}, 6),
        ({"every": 2}, 3),
        ({"start": 4}, 2),
        ({"updates": 3}, 18),
        ({"start": 1, "every": 3, "updates": 2}, 4),
    ],
)
def test_it_learns_when_and_as_often_as_it_is_told(options: dict[str, Any], wanted: int) -> None:
    critic = begun(tiny_critic(**options), (0, 1))
    for step in range(6):
        critic.learn(pictures(2), step=step)
    assert updates_taken(critic) == [wanted, wanted]


def test_one_critic_per_image_does_not_depend_on_its_company() -> None:
    images = pictures(3)
    together = begun(tiny_critic(), (7, 8, 9))
    alone = begun(tiny_critic(), (8,))
    for step in range(3):
        together.learn(images, step=step)
        alone.learn(images[1:2], step=step)
    assert same(together.nets[1].state_dict(), alone.nets[0].state_dict())
    assert torch.equal(together.scores(images)[1:2], alone.scores(images[1:2]))
    assert not same(together.nets[0].state_dict(), together.nets[1].state_dict())


def test_a_shared_critic_couples_the_images() -> None:
    images = pictures(3)
    shared = begun(tiny_critic(shared=True), (7, 8, 9))
    alone = begun(tiny_critic(shared=True), (7,))
    assert len(shared.nets) == 1
    assert same(shared.nets[0].state_dict(), alone.nets[0].state_dict())
    shared.learn(images, step=0)
    alone.learn(images[:1], step=0)
    assert updates_taken(shared) == [1]
    assert not same(shared.nets[0].state_dict(), alone.nets[0].state_dict())
    assert shared.scores(images).shape[0] == 3


def test_a_shared_critic_mixes_the_whole_batch_by_one_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[tuple[int, int]] = []

    def spy(net: Any, real: Tensor, fake: Tensor, mix: Tensor, **_: Any) -> Tensor:
        seen.append((len(fake), mix.numel()))
        return torch.zeros((), requires_grad=True)

    monkeypatch.setattr("invertkit.players.critic.critic_loss", spy)
    begun(tiny_critic(shared=True), (0, 1, 2)).learn(pictures(3), step=0)
    begun(tiny_critic(), (0, 1, 2)).learn(pictures(3), step=0)
    assert seen == [(3, 1), (1, 1), (1, 1), (1, 1)]


def test_weights_are_frozen_but_while_it_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    learning: list[bool] = []

    def spy(net: nn.Module, *args: Any, **options: Any) -> Tensor:
        learning.append(all(w.requires_grad for w in net.parameters()))
        return critic_loss(net, *args, **options)

    monkeypatch.setattr("invertkit.players.critic.critic_loss", spy)
    critic = begun(tiny_critic())
    critic.learn(pictures(1), step=0)
    assert learning == [True]
    assert not any(w.requires_grad for net in critic.nets for w in net.parameters())


def test_a_new_stage_keeps_the_networks_and_renews_the_optimizers() -> None:
    critic = begun(tiny_critic())
    critic.learn(pictures(1), step=0)
    learnt = through_a_file(critic.nets[0].state_dict())
    larger = make_scene((24, 24), dtype=torch.float32)
    critic.begin(larger, Randomness((0,)), purpose="players/critic")
    assert same(learnt, through_a_file(critic.nets[0].state_dict()))
    assert updates_taken(critic) == [0]


def test_an_image_smaller_than_its_patches_is_refused() -> None:
    small = make_scene((20, 40), dtype=torch.float32)
    with pytest.raises(InputError, match="21×21 pixels, the image of this stage is 20×40"):
        PatchCritic().begin(small, Randomness((0,)), purpose="c")
    with pytest.raises(InputError, match="give an image"):
        PatchCritic().begin(make_scene(reference=False), Randomness((0,)), purpose="c")


@pytest.mark.parametrize("size", [(21, 21), (22, 24), (21, 25), (25, 21), (25, 25)])
def test_an_image_that_is_accepted_can_be_scored(size: tuple[int, int]) -> None:
    """Statistics over one place say nothing: PyTorch refuses them, so `begin` has to."""
    critic = PatchCritic(widths=(2, 2, 2, 2))
    try:
        critic.begin(make_scene(size, dtype=torch.float32), Randomness((0,)), purpose="c")
    except InputError:
        assert max(size) < 25
        return
    images = uniform(1, 3, *size, dtype=torch.float32)
    critic.learn(images, step=0)
    assert critic.scores(images).isfinite().all()
    assert max(size) >= 25


def test_without_normalisation_one_patch_is_enough() -> None:
    critic, size = PatchCritic(widths=(2, 2, 2, 2), norm="none"), (21, 21)
    critic.begin(make_scene(size, dtype=torch.float32), Randomness((0,)), purpose="c")
    images = uniform(1, 3, *size, dtype=torch.float32)
    critic.learn(images, step=0)
    assert critic.scores(images).shape == (1, 1, 1, 1)


# ---------------------------------------------------------------------- the networks


@pytest.mark.parametrize(
    ("net", "wanted"),
    [
        (lambda: PatchCriticNet(**MAGIC), 545_217),
        (lambda: PatchCriticNet(**IMAGINE), 447_489),
        (lambda: EncoderDecoder(), 150_723),
    ],
)
def test_networks_have_the_published_number_of_weights(
    net: Callable[[], nn.Module], wanted: int
) -> None:
    assert sum(weight.numel() for weight in net().parameters()) == wanted


@pytest.mark.parametrize(
    ("kernels", "strides", "wanted"),
    [
        ((4, 4, 4, 3, 1), (1, 2, 2, 1, 1), 21),
        ((3, 3, 3, 3, 1), (1, 1, 1, 1, 1), 9),
        ((4, 4, 4, 3, 3), (1, 2, 2, 1, 1), 29),
    ],
)
def test_published_receptive_fields(
    kernels: tuple[int, ...], strides: tuple[int, ...], wanted: int
) -> None:
    assert receptive_field(kernels, strides) == wanted
    widths = (2,) * (len(kernels) - 1)
    assert PatchCriticNet(kernels=kernels, strides=strides, widths=widths).receptive_field == wanted


@given(layers=st.lists(st.tuples(st.integers(1, 4), st.integers(1, 3)), min_size=1, max_size=4))
def test_the_receptive_field_is_where_gradients_reach(layers: list[tuple[int, int]]) -> None:
    """Strides no larger than kernels, so that the field has no holes."""
    kernels = [kernel for kernel, _ in layers]
    strides = [min(stride, kernel) for kernel, stride in layers]
    net = PatchCriticNet(
        kernels=kernels, strides=strides, widths=(2,) * (len(kernels) - 1), norm="none"
    )
    with torch.no_grad():
        for weight in net.parameters():
            weight.fill_(0.1)
    jump = 1
    for stride in strides:
        jump *= stride
    side = net.receptive_field + jump
    image = torch.ones(1, 3, side, side, requires_grad=True)
    scores = net(image)
    (slope,) = torch.autograd.grad(scores[0, 0, 0, 0], image)
    seen = slope[0].abs().sum(0).nonzero()
    assert (seen.max(0).values - seen.min(0).values + 1).tolist() == [net.receptive_field] * 2


def test_instance_norm_is_train_mode_batch_norm_of_one_image() -> None:
    norm, released = ImageNorm(3, "instance").double(), nn.BatchNorm2d(3).double().train()
    with torch.no_grad():
        for weights in (norm.weight, released.weight):
            weights.copy_(torch.tensor([0.5, 1.0, 2.0]))
        for biases in (norm.bias, released.bias):
            biases.copy_(torch.tensor([0.1, 0.2, 0.3]))
    images = normal(3, 3, 4, 5)
    one_by_one = torch.cat([released(image[None]) for image in images])
    torch.testing.assert_close(norm(images), one_by_one)
    coupled = ImageNorm(3, "batch").double()
    coupled.load_state_dict(norm.state_dict())
    torch.testing.assert_close(coupled(images), released(images))


def test_batch_norm_makes_scores_depend_on_company_and_instance_norm_does_not() -> None:
    images = normal(2, 3, 16, 16)
    for norm, independent in (("instance", True), ("none", True), ("batch", False)):
        made: dict[str, Any] = {"kernels": (3, 1), "strides": (1, 1), "widths": (4,), "norm": norm}
        net = PatchCriticNet(**made).double()
        found = torch.allclose(net(images)[:1], net(images[:1]), rtol=1e-10)
        assert found is independent


def test_initial_weights_follow_the_released_rules_and_their_generator() -> None:
    def make(seed: int) -> EncoderDecoder:
        return EncoderDecoder(generator=torch.Generator().manual_seed(seed))

    net = make(0)
    assert same(net.state_dict(), make(0).state_dict())
    assert not same(net.state_dict(), make(1).state_dict())
    for module in net.modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 5000:
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.05)
        elif isinstance(module, nn.ConvTranspose2d) and module.weight.numel() > 5000:
            bound = 1 / module.weight[0].numel() ** 0.5
            assert module.weight.abs().max().item() == pytest.approx(bound, rel=0.01)
        elif isinstance(module, ImageNorm) and module.weight.numel() > 1:
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.5)
            assert module.weight.mean().item() == pytest.approx(1, abs=0.01)
            assert not module.bias.any()


def test_a_critic_of_unequal_lists_is_refused() -> None:
    with pytest.raises(ValueError, match="2 kernels, 1 strides and 1 widths"):
        PatchCriticNet(kernels=(3, 3), strides=(1,), widths=(4,))

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from invertkit.core.randomness import Randomness, StepDraws
from invertkit.core.recording.tape import record
from invertkit.core.scene import Scene
from invertkit.errors import InputError
from invertkit.models.critics.patch_critic import PatchCriticNet
from invertkit.models.stacked.normed_leaky import NormKind
from invertkit.models.stacked.stack import Stack
from invertkit.players.critic import PatchCritic
from invertkit.players.critic_gradients import critic_gradients
from tests.helpers import make_scene, normal, same, scene_of, through_a_file, tiny_critic, uniform
from tests.players.plain import Form, assert_same_network, critic_loss, learnt, plain

Way = Literal["joined", "apart"]
ways = st.sampled_from(["joined", "apart"])
forms = pytest.mark.parametrize("form", ["pixel", "sample"])
PURPOSE = "players/critic"


@contextmanager
def going(way: Way) -> Iterator[None]:
    """All images in one pass, as on a GPU; or one by one, as on a CPU."""
    with pytest.MonkeyPatch.context() as patch:
        if way == "joined":
            patch.setattr(Stack, "one_by_one", lambda self, device: False)
        yield


def begun(
    critic: PatchCritic,
    seeds: tuple[int, ...] = (0,),
    scene: Scene | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    enlarged: float = 1,
) -> PatchCritic:
    scene = make_scene(dtype=dtype) if scene is None else scene
    critic.begin(scene, Randomness(seeds), purpose=PURPOSE)
    net = the(critic)
    with torch.no_grad():
        for layer in net.stack:
            layer.weight.mul_(enlarged)
    net.to(dtype)
    return critic


def the(critic: PatchCritic) -> PatchCriticNet:
    assert critic.net is not None
    return critic.net


def pictures(batch: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return uniform(batch, 3, 16, 20, seed=seed, dtype=dtype)


def weights(critic: PatchCritic) -> dict[str, Tensor]:
    """A copy."""
    return {name: w.clone() for name, w in the(critic).state_dict().items()}


# ---------------------------------------------------------------------- the loss


def colour_critic(colours: Tensor) -> PatchCriticNet:
    """Scores every pixel by w·x."""
    net = PatchCriticNet(kernels=(1,), strides=(1,), widths=()).double()
    net.stack[0].weight.copy_(colours.reshape(1, 1, 3, 1, 1))
    return net


def of_penalty(net: PatchCriticNet, form: Form) -> Tensor:
    """Its gradient alone, since fake and real are the same."""
    image, mix = uniform(1, 3, 4, 5), torch.full((1, 1, 1, 1), 0.5).double()
    return critic_gradients(net, image, image, mix, penalty=1.0, form=form)[0].flatten()


@given(seed=st.integers(0, 99), length=st.floats(0.1, 4))
def test_the_penalty_of_a_linear_critic_is_known(seed: int, length: float) -> None:
    """(‖w‖ - 1)²; of a mean score the gradient is w/(hw) at hw pixels, so ‖w‖/√(hw) long."""
    colours = normal(3, seed=seed)
    colours = length * colours / colours.norm()
    unit = colours / colours.norm()
    found = of_penalty(colour_critic(colours), "pixel")
    torch.testing.assert_close(found, 2 * (length - 1) * unit)
    found = of_penalty(colour_critic(colours), "sample")
    torch.testing.assert_close(found, 2 * (length / 20**0.5 - 1) * unit / 20**0.5)


@forms
@pytest.mark.parametrize("length", [0.0, 1.0])
def test_a_critic_of_slope_one_or_none_is_not_pulled(form: Form, length: float) -> None:
    """At slope zero the penalty has a tip, and no direction."""
    length *= 1.0 if form == "pixel" else 20**0.5
    pulled = of_penalty(colour_critic(torch.tensor([0.0, length, 0.0]).double()), form)
    torch.testing.assert_close(pulled, torch.zeros(3).double())


@given(
    norm=st.sampled_from(["instance", "batch", "none"]),
    form=st.sampled_from(["pixel", "sample"]),
    weight=st.sampled_from([0.0, 0.1, 3.0]),
    seed=st.integers(0, 9),
    way=ways,
)
def test_the_gradients_agree_with_finite_differences(
    norm: NormKind, form: Form, weight: float, seed: int, way: Way
) -> None:
    critic = begun(tiny_critic(norm=norm, shared=True), (seed,), dtype=torch.float64, enlarged=6)
    net, fake, real = the(critic), uniform(2, 3, 9, 10, seed=seed), uniform(1, 3, 9, 10, seed=77)
    mix = torch.full((1, 1, 1, 1), 0.3).double()
    with going(way):
        found = critic_gradients(net, fake, real, mix, penalty=weight, form=form)
    along = [normal(*w.shape, seed=i) for i, w in enumerate(net.learnt())]

    def loss(move: float) -> float:
        for w, direction in zip(net.learnt(), along, strict=True):
            w.add_(move * direction)
        if norm == "instance":  # plainly, image by image
            whole = plain(net)
            scores = torch.cat([whole(image[None]).flatten(1).mean(1) for image in fake])
            value = scores.mean() - whole(real).mean()
            halves = [critic_loss(whole, f[None], real, mix, weight, form) for f in fake]
            own = [critic_loss(whole, f[None], real, mix, 0, form) for f in fake]
            value = value + (sum(halves) - sum(own)) / len(fake)
        else:
            value = critic_loss(plain(net), fake, real, mix, weight, form)
        for w, direction in zip(net.learnt(), along, strict=True):
            w.sub_(move * direction)
        return float(value.detach())

    slope = (loss(1e-6) - loss(-1e-6)) / 2e-6
    inner = sum(float((g * d).sum()) for g, d in zip(found, along, strict=True))
    assert inner == pytest.approx(slope, rel=1e-4, abs=1e-7)


@given(
    norm=st.sampled_from(["instance", "batch", "none"]),
    form=st.sampled_from(["pixel", "sample"]),
    penalty=st.sampled_from([0.0, 0.1, 2.0]),
    batch=st.integers(1, 3),
    photographs=st.sampled_from(["one", "each"]),
    way=ways,
)
def test_each_critic_learns_what_plain_autograd_teaches_it_alone(
    norm: NormKind,
    form: Form,
    penalty: float,
    batch: int,
    photographs: Literal["one", "each"],
    way: Way,
) -> None:
    """One reference for all, or one for each image; several updates; then scores and slopes."""
    scene = make_scene()
    assert scene.reference is not None
    rows = uniform(batch, 3, 16, 20, seed=5) if photographs == "each" else scene.reference
    scene = scene_of(scene.size, rows, scene.inputs["mask"], scene.inputs["target"])
    options = {"norm": norm, "penalty_form": form, "penalty": penalty, "lr": 1e-2}
    critic = begun(
        tiny_critic(**options), tuple(range(batch)), scene, dtype=torch.float64, enlarged=6
    )
    alone = [plain(the(critic), i) for i in range(batch)]
    images = [pictures(batch, seed=step, dtype=torch.float64) for step in range(3)]
    with going(way):
        for step, fake in enumerate(images):
            critic.learn(fake, step=step)
    mixes = [Randomness(tuple(range(batch))).uniform(f"{PURPOSE}/mix/0", (1, 1, 1), step=s)
             for s in range(3)]  # fmt: skip
    for i, start in enumerate(alone):
        real = rows[i : i + 1] if photographs == "each" else rows
        losses = [
            lambda net, step=step, i=i, real=real: critic_loss(
                net, images[step][i : i + 1], real, mixes[step][i : i + 1], penalty, form
            )
            for step in range(3)
        ]
        assert_same_network(the(critic), i, learnt(start, losses, lr=1e-2))
        network = plain(the(critic), i)
        for asked in ("joined", "apart"):
            with going(asked):
                mine = images[0].clone().requires_grad_()
                scores = critic.scores(mine)
            wanted = network(theirs := images[0][i : i + 1].clone().requires_grad_())
            torch.testing.assert_close(scores[i : i + 1], wanted, rtol=1e-9, atol=1e-10)
            (slope,) = torch.autograd.grad(scores.square().sum(), mine)
            (steep,) = torch.autograd.grad(wanted.square().sum(), theirs)
            torch.testing.assert_close(slope[i : i + 1], steep, rtol=1e-9, atol=1e-10)


@given(
    norm=st.sampled_from(["batch", "none"]),
    form=st.sampled_from(["pixel", "sample"]),
    photographs=st.sampled_from(["one", "each"]),
    way=ways,
)
def test_a_shared_critic_learns_what_plain_autograd_teaches_it(
    norm: NormKind, form: Form, photographs: Literal["one", "each"], way: Way
) -> None:
    scene = make_scene()
    assert scene.reference is not None
    real = uniform(3, 3, 16, 20, seed=5) if photographs == "each" else scene.reference
    scene = scene_of(scene.size, real, scene.inputs["mask"], scene.inputs["target"])
    made = tiny_critic(norm=norm, penalty_form=form, shared=True, lr=1e-2)
    critic = begun(made, (4, 5, 6), scene, dtype=torch.float64, enlarged=6)
    start, images = plain(the(critic)), pictures(3, dtype=torch.float64)
    with going(way):
        for step in range(3):
            critic.learn(images, step=step)
    draws = Randomness((4, 5, 6))
    losses = [
        lambda net, step=step: critic_loss(
            net,
            images,
            real,
            draws.uniform(f"{PURPOSE}/mix/0", (1, 1, 1), step=step)[:1],
            0.1,
            form,
        )
        for step in range(3)
    ]
    assert_same_network(the(critic), 0, learnt(start, losses, lr=1e-2))


# ---------------------------------------------------------------------- its cost


class Counted(TorchDispatchMode):
    """Counts convolutions, forwards and backwards, and all that is not a look at memory."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.convolutions += "convolution" in str(func)
        self.operations += not func.is_view
        return func(*args, **(kwargs or {}))


def counted(critic: PatchCritic, batch: int) -> Counted:
    begun(critic, tuple(range(batch)))
    critic.learn(pictures(batch), step=0)
    with going("joined"), Counted() as counts:
        critic.learn(pictures(batch), step=1)
    return counts


@pytest.mark.parametrize(("norm", "wanted"), [("none", 4 * 3 - 2), ("instance", 6 * 3 - 4)])
def test_an_update_takes_no_pass_too_many(norm: NormKind, wanted: int) -> None:
    """Of three layers. Forwards, to the input, along, to the weights; with norms two more.

    Scores themselves are never needed; nor is what reaches the image, but for the mixed one.
    """
    assert counted(tiny_critic(norm=norm), 1).convolutions == wanted


@pytest.mark.parametrize("norm", ["none", "instance", "batch"])
def test_side_by_side_many_critics_take_the_operations_of_one(norm: NormKind) -> None:
    one, two, many = (counted(tiny_critic(norm=norm), batch) for batch in (1, 2, 4))
    assert many.convolutions == one.convolutions
    assert many.operations == two.operations + 2  # one draw an image, on the CPU
    assert two.operations <= one.operations + 8  # copies that lay images side by side


@pytest.mark.parametrize("way", ["joined", "apart"])
@pytest.mark.parametrize("norm", ["none", "instance"])
def test_an_update_can_be_recorded_and_replayed(norm: NormKind, way: Way) -> None:
    step_draws = StepDraws()
    critic, other = begun(tiny_critic(norm=norm), (0, 1)), begun(tiny_critic(norm=norm), (0, 1))
    draws = Randomness((0, 1), step_draws=step_draws)
    critic.begin(make_scene(dtype=torch.float32), draws, purpose=PURPOSE)
    images = pictures(2)
    with going(way), step_draws.opened():
        for step in range(5):
            other.learn(pictures(2, seed=step), step=step)
            images.copy_(pictures(2, seed=step))
            step_draws.go_to(step)
            if step == 0:
                critic.learn(images, step=0)
            elif step == 1:
                tape = record(
                    lambda: critic.learn(images, step=1), volatile=[images, *step_draws.tensors]
                )
            else:
                tape.replay()
    assert same(critic.save(), other.save())
    assert not critic.obstacle


# ---------------------------------------------------------------------- the player


def test_learning_separates_the_image_from_the_reference() -> None:
    critic = begun(tiny_critic(lr=1e-2, updates=20))
    images, reference = pictures(1), make_scene(dtype=torch.float32).reference
    assert reference is not None

    def gap() -> float:
        return float(critic.scores(images).mean() - critic.scores(reference * 0.5).mean())

    scene = make_scene(dtype=torch.float32)
    dark = scene_of(scene.size, reference * 0.5, scene.inputs["mask"], scene.inputs["target"])
    critic.begin(dark, Randomness((0,)), purpose=PURPOSE)
    before = gap()
    critic.learn(images, step=0)
    assert gap() < before - 0.01


def updates_taken(critic: PatchCritic) -> int:
    """As its Adam counts them."""
    assert critic._optimizer is not None
    state = critic._optimizer.state
    return int(state[2]) if state else 0  # mean, square and count of the first tensor


def test_the_released_schedule_begins_at_iteration_5005_and_takes_2600_updates(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    critic = begun(tiny_critic(start=5000, every=5))
    taken: list[int] = []
    nothing = [torch.zeros_like(weight) for weight in the(critic).learnt()]

    def spy(*args: Any, **kwargs: Any) -> list[Tensor]:
        taken.append(now)
        return nothing

    monkeypatch.setattr("invertkit.players.critic.critic_gradients", spy)
    images = pictures(1)
    for now in range(18000):
        critic.learn(images, step=now)
    assert taken[0] == 5004  # its 1-based number is 5005
    assert {step % 5 for step in taken} == {4}
    assert len(taken) == 2600


@given(start=st.integers(0, 5), every=st.integers(1, 4))
def test_its_phase_says_whether_a_step_changes_it(start: int, every: int) -> None:
    critic = begun(tiny_critic(start=start, every=every))
    for step in range(8):
        before = weights(critic)
        critic.learn(pictures(1), step=step)
        assert same(before, weights(critic)) is not critic.phase(step).key


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
    assert updates_taken(critic) == wanted


@pytest.mark.parametrize("norm", ["instance", "batch", "none"])
@pytest.mark.parametrize("form", ["pixel", "sample"])
@pytest.mark.parametrize("way", ["joined", "apart"])
def test_one_critic_per_image_does_not_depend_on_its_company(
    norm: NormKind, form: Form, way: Way
) -> None:
    """Side by side to rounding; one by one, as on a CPU, to the last bit."""
    images, options = pictures(3, dtype=torch.float64), {"norm": norm, "penalty_form": form}
    together = begun(tiny_critic(**options), (7, 8, 9), dtype=torch.float64, enlarged=6)
    alone = begun(tiny_critic(**options), (8,), dtype=torch.float64, enlarged=6)
    for step in range(3):
        alone.learn(images[1:2], step=step)
        with going(way):
            together.learn(images, step=step)
    for name, weight in weights(together).items():
        mine = weights(alone)[name]
        torch.testing.assert_close(weight[1:2], mine, rtol=1e-10, atol=1e-10)
        assert way == "joined" or torch.equal(weight[1:2], mine)
        if weight[0].numel() > 1 and not name.endswith("shift"):
            assert not torch.allclose(weight[:1], mine)


def test_a_shared_critic_couples_the_images() -> None:
    images = pictures(3)
    shared = begun(tiny_critic(shared=True), (7, 8, 9))
    alone = begun(tiny_critic(shared=True), (7,))
    assert the(shared).networks == 1
    assert same(weights(shared), weights(alone))
    shared.learn(images, step=0)
    alone.learn(images[:1], step=0)
    assert updates_taken(shared) == 1
    assert not same(weights(shared), weights(alone))
    assert shared.scores(images).shape[0] == 3


def test_weights_never_ask_for_a_gradient_and_keep_none() -> None:
    critic = begun(tiny_critic())
    critic.learn(pictures(1), step=0)
    assert not any(weight.requires_grad for weight in the(critic).parameters())
    assert all(weight.grad is None for weight in the(critic).parameters())


def test_an_update_changes_the_same_tensors_all_along() -> None:
    critic = begun(tiny_critic(), (0, 1))
    critic.learn(pictures(2), step=0)
    assert critic._optimizer is not None

    def places() -> list[int]:
        assert critic._optimizer is not None
        held = [*the(critic).parameters(), *critic._optimizer.state]
        return [tensor.data_ptr() for tensor in held]

    before = places()
    critic.learn(pictures(2), step=1)
    assert places() == before
    assert len(before) > 20


@pytest.mark.parametrize("batch", [1, 2])
def test_it_goes_on_from_a_file_as_if_never_stopped(batch: int) -> None:
    seeds = tuple(range(batch))
    whole, first, second = (begun(tiny_critic(), seeds) for _ in range(3))
    for step in range(4):
        whole.learn(pictures(batch, seed=step), step=step)
        if step < 2:
            first.learn(pictures(batch, seed=step), step=step)
    saved = first.save()
    first.learn(pictures(batch, seed=9), step=2)  # what was saved stays as it was
    second.load(through_a_file(saved))
    for step in (2, 3):
        second.learn(pictures(batch, seed=step), step=step)
    assert same(whole.save(), second.save())
    assert not same(whole.save(), first.save())


def test_a_new_stage_keeps_the_networks_and_renews_the_optimizer() -> None:
    critic = begun(tiny_critic())
    critic.learn(pictures(1), step=0)
    before = weights(critic)
    larger = make_scene((24, 24), dtype=torch.float32)
    critic.begin(larger, Randomness((0,)), purpose=PURPOSE)
    assert same(before, weights(critic))
    assert updates_taken(critic) == 0


def test_an_image_smaller_than_its_patches_is_refused() -> None:
    small = make_scene((20, 40), dtype=torch.float32)
    with pytest.raises(InputError, match="21×21 pixels, the image of this stage is 20×40"):
        PatchCritic().begin(small, Randomness((0,)), purpose="c")
    with pytest.raises(InputError, match="before its stage began"):
        PatchCritic().scores(pictures(1))
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

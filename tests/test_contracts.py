from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from invertkit.core.params import Params
from invertkit.core.randomness import Randomness
from invertkit.core.scene import Scene
from invertkit.core.schedules import Cosine
from invertkit.objectives.base import Objective
from invertkit.optimizers.base import Optimizer
from invertkit.optimizers.population.cma_es import CmaEs
from invertkit.optimizers.torch_optim import Adam
from invertkit.optimizers.wrappers import Clip, KeepBest, WrappedOptimizer
from invertkit.players.base import Player
from invertkit.recipe.registry import Registry
from invertkit.recipe.tables import OBJECTIVES, OPTIMIZERS, PLAYERS, VARIABLES, PartKind
from invertkit.variables.base import Variable, WrappedVariable
from invertkit.variables.latent import Latent
from invertkit.variables.pixels import Pixels
from invertkit.variables.wrappers import Hold, Jitter
from tests.helpers import (
    SIZE,
    global_generators_unmoved,
    make_scene,
    networks,
    normal,
    same,
    score,
    setting,
    through_a_file,
    tiny_generator,
    tiny_models,
    uniform,
)
from tests.landscapes import FunctionLandscape
from tests.latents import plain_generator, style_generator, zeta_space

# Options of every part: a new line in the registry needs one here, or its tests fail by KeyError.
Samples = dict[str, list[dict[str, Any]]]
OBJECTIVE_SAMPLES: Samples = {
    "agreement": [{}],
    "activation": [{"layer": "layer1"}, {"layer": "layer2", "channel": 3}],
    "attention": [{"layer": "layer1"}],
    "batch_norm_statistics": [{}, {"form": "divergence"}],
    "competition": [{}, {"form": "released", "temperature": 3.0}],
    "critic_score": [{}],
    "cross_entropy": [
        {},
        {"target": 2},
        {"target": 2, "zoom": (0.5, 1.0), "flip": 0.5, "colour": 0.2, "noise": 0.05},
    ],
    "feature_cosine": [{"model": "classifier"}, {"model": "perceptual", "layers": ["layer2"]}],
    "feature_distance": [{"layers": ["layer1"]}],
    "feature_statistics": [{}, {"form": "norm", "layers": ["layer1", "layer2"]}],
    "gram_matrices": [{}, {"layers": ["stem", "layer2"], "weights": [0.5, 2]}],
    "kl_divergence": [{}],
    "lpips": [{}, {"mask": "maps", "outside": 0.3}],
    "mask_bce": [{}],
    "nearest_patches": [{"kernel": 3, "every": 1}],
    "norm": [{}, {"squared": False, "space": "imagenet"}],
    "patch_swd": [{"filters": 8, "kernel": 3}, {"filters": 8, "kernel": 3, "split": False}],
    "pixel_distance": [{}, {"form": "l2"}],
    "range": [{}],
    "total_variation": [{}, {"form": "l2"}, {"form": "mahendran_vedaldi", "beta": 1.5}],
    "weight_deviation": [{"tensor": "pixels"}, {"tensor": "pixels", "squared": True}],
}
VARIABLE_SAMPLES: Samples = {
    "augmented": [{"inner": Pixels()}, {"inner": Pixels(), "zoom": (0.5, 1.5), "rotation": 20.0}],
    "fourier": [{}, {"noise": 0.5, "decorrelate": False}, {"decay": 1.3}],
    "hold": [{"inner": Pixels()}, {"inner": Pixels(space="imagenet"), "region": "background"}],
    "jitter": [{"inner": Pixels(), "pixels": 3, "at": 16, "flip": 0.5}],
    "latent": [
        {"embedding": "given", "label": 1},
        {"embedding": "gaussian", "beyond": "wrap", "limit": 1.0},
        {"model": "plain"},
        {"model": "style", "embedding": "random", "noise": {"noise": 0.5}, "limit": {"w": 2.0}},
        {"space": "zeta", "embedding": "given", "label": 1},
    ],
    "pixels": [
        {},
        {"space": "imagenet", "start": "image", "noise": 0.1},
        {"start": "region_means", "noise": 0.0},
        {"start": "constant", "colour": (0.2, 0.4, 0.6), "noise": 0.1},
        {"size": 16},
    ],
    "transformed": [
        {"inner": Latent(embedding="given", label=0)},
        {
            "inner": Latent(embedding="given", label=0),
            "spatial": "anisotropic",
            "colour": ("contrast", "hue"),
        },
    ],
    "tuned": [{"inner": Latent(embedding="given", label=0)}],
}
INNER_VARIABLES: dict[str, Variable] = {
    name: Registry().load("variable", name)(**options[0])
    for name, options in VARIABLE_SAMPLES.items()
}
VARIABLE_SAMPLES["hold"] += [{"inner": inner} for inner in INNER_VARIABLES.values()]
VARIABLE_SAMPLES["augmented"] += [{"inner": inner} for inner in INNER_VARIABLES.values()]
VARIABLE_SAMPLES["jitter"] += [
    {"inner": inner, "pixels": 3, "at": 16} for inner in INNER_VARIABLES.values()
]
OPTIMIZER_SAMPLES: Samples = {
    "adam": [{"lr": 0.05}, {"lr": Cosine("cosine", peak=0.1, warmup=3), "betas": (0.5, 0.9)}],
    "basin_cma": [
        {"outer": CmaEs(sigma=0.3), "inner": Adam(lr=0.05), "inner_steps": 2, "last_steps": 4},
        {
            "outer": CmaEs(sigma=0.3, population=6),
            "inner": Adam(lr=0.05),
            "inner_steps": 3,
            "told": "sampled",
            "result": "mean",
        },
    ],
    "clip": [{"inner": Adam(lr=0.05)}, {"inner": Adam(lr=0.05), "space": "imagenet"}],
    "cma_adam": [{"outer": CmaEs(sigma=0.3), "inner": Adam(lr=0.05), "last_steps": 6}],
    "cma_es": [
        {"sigma": 0.3},
        {"sigma": 0.3, "library": "pycma", "population": 5, "active": False},
    ],
    "keep_best": [{"inner": Adam(lr=0.05)}],
    "lbfgs": [{"iterations": 2, "lr": 0.1}, {"iterations": 2, "lr": 0.1, "strong_wolfe": False}],
    "torch": [
        {"name": "SGD", "lr": 0.02, "options": {"momentum": 0.9}},
        {"name": "RMSprop", "lr": 0.02},
        {"name": "LBFGS", "lr": 0.1, "options": {"max_iter": 2}},
    ],
}
CRITIC = {"kernels": (3, 3, 1), "strides": (1, 2, 1), "widths": (4, 4)}
PLAYER_SAMPLES: Samples = {
    "patch_critic": [
        CRITIC,
        {**CRITIC, "shared": True, "norm": "batch", "penalty_form": "sample"},
        {**CRITIC, "every": 2, "updates": 2, "norm": "none"},
    ],
    "segmenter": [
        {"width": 4, "when": "before", "updates": 3},
        {"width": 4, "when": "during", "updates": 3, "norm": "batch"},
    ],
}


def every(table: Any, kind: PartKind, samples: Samples) -> Any:
    """One case per entry of the registry and sample; a missing sample becomes a failing case."""
    cases = []
    for name in table:
        for i, options in enumerate(samples.get(name, [None])):  # type: ignore[list-item]

            def make(name: str = name, options: Any = options) -> Any:
                if options is None:
                    raise KeyError(f"{kind} {name!r} has no sample in tests/test_contracts.py")
                return Registry().load(kind, name)(**options)

            cases.append(pytest.param(make, id=f"{name}-{i}"))
    return pytest.mark.parametrize("make", cases)


every_objective = every(OBJECTIVES, "objective", OBJECTIVE_SAMPLES)
every_variable = every(VARIABLES, "variable", VARIABLE_SAMPLES)
every_optimizer = every(OPTIMIZERS, "optimizer", OPTIMIZER_SAMPLES)
every_player = every(PLAYERS, "player", PLAYER_SAMPLES)

SEEDS = (3, 5, 8)


def test_samples_name_only_what_exists() -> None:
    for table, samples in (
        (OBJECTIVES, OBJECTIVE_SAMPLES),
        (VARIABLES, VARIABLE_SAMPLES),
        (OPTIMIZERS, OPTIMIZER_SAMPLES),
        (PLAYERS, PLAYER_SAMPLES),
    ):
        assert samples.keys() <= table.keys()


# ---------------------------------------------------------------------- objectives


def free_images(batch: int) -> Tensor:
    """Some pixels outside [0, 1], so that there is something to want for every objective."""
    return 0.5 + 0.4 * normal(batch, 3, *SIZE, seed=4)


@every_objective
def test_an_objective_gives_one_number_per_image_alone_or_in_company(
    make: Callable[[], Objective],
) -> None:
    images, objective = free_images(3), make()
    scene = setting(objective, seeds=SEEDS)
    values = score(objective, scene, images, seeds=SEEDS)
    assert values.shape == (3,)
    assert values.isfinite().all()
    for i, seed in enumerate(SEEDS):
        objective = make()
        scene = setting(objective, seeds=(seed,))
        alone = score(objective, scene, images[i : i + 1], seeds=(seed,))
        torch.testing.assert_close(values[i : i + 1], alone, rtol=1e-10, atol=1e-12)


@every_objective
def test_an_image_feels_nothing_of_its_company(make: Callable[[], Objective]) -> None:
    objective, images = make(), free_images(2).requires_grad_()
    scene = setting(objective, seeds=(0, 1))
    (slope,) = torch.autograd.grad(score(objective, scene, images)[0], images)
    assert slope[0].any()
    assert not slope[1].any()


@every_objective
def test_a_few_steps_lower_an_objective(make: Callable[[], Objective]) -> None:
    objective, images = make(), free_images(2).requires_grad_()
    scene = setting(objective, seeds=(0, 1))
    before = score(objective, scene, images).detach()
    adam = torch.optim.Adam([images], lr=2e-3)
    for _ in range(10):
        adam.zero_grad()
        score(objective, scene, images).sum().backward()
        adam.step()
    assert (score(objective, scene, images) < before).all()


@every_objective
def test_an_objective_leaves_the_global_generators_and_the_models_alone(
    make: Callable[[], Objective],
) -> None:
    with global_generators_unmoved():
        objective, images = make(), free_images(2).requires_grad_()
        scene = setting(objective, seeds=(0, 1))
        held = [scene.models["classifier"]]
        held += [network for player in scene.players.values() for network in networks(player)]
        before = through_a_file([network.state_dict() for network in held])
        score(objective, scene, images).sum().backward()
    assert same(before, through_a_file([network.state_dict() for network in held]))
    assert all(weight.grad is None for network in held for weight in network.parameters())


@every_objective
def test_an_objective_is_prepared_afresh_for_every_size(make: Callable[[], Objective]) -> None:
    small, large = make_scene((12, 14)), make_scene((20, 18))
    objective = make()
    for at in (small, large, small):
        scene, fresh = setting(objective, at), make()
        images = uniform(1, 3, *at.size)
        wanted = score(fresh, setting(fresh, at), images)
        assert torch.equal(score(objective, scene, images), wanted)


@every_objective
def test_asking_an_objective_what_it_needs_changes_nothing(make: Callable[[], Objective]) -> None:
    objective = make()
    before = {name: value for name, value in vars(objective).items()}
    models = tiny_models()
    assert objective.needs(models) == objective.needs(models)
    assert vars(objective) == before


# ---------------------------------------------------------------------- variables


def variable_scene(size: tuple[int, int] = SIZE) -> Scene:
    scene = make_scene(size, dtype=torch.float32)
    return dataclasses.replace(scene, models=generators())


@functools.cache
def generators() -> dict[str, Any]:
    """One with classes, one with a bare z, and one with three latents."""
    return {
        "generator": tiny_generator(),
        "plain": plain_generator().float(),
        "style": style_generator().float(),
        "zeta": zeta_space().float(),
    }


@every_variable
def test_a_variable_makes_images_of_every_size_it_is_asked_for(
    make: Callable[[], Variable],
) -> None:
    variable, size = make().bind(generators()), SIZE
    params = variable.start(variable_scene(), Randomness(SEEDS))
    for new in (SIZE, (24, 30), (9, 11), (10, 8), (16, 16)):
        params, size = variable.resize(params, size, new), new
        assert all(len(param) == 3 and param.dtype == torch.float32 for param in params.values())
        image = variable.image(params, variable_scene(size))
        assert image.shape == (3, 3, *size)
        assert image.isfinite().all()
        look = variable.look(params, variable_scene(size), Randomness(SEEDS), 7)
        if not variable.frame_names:
            assert look.shape == image.shape
        if not variable.moves_pixels:
            assert torch.equal(variable.still(look, params, variable_scene(size)), image)
        assert variable.names == tuple(params)


@every_variable
def test_a_seed_gives_the_same_tensor_alone_and_in_company(make: Callable[[], Variable]) -> None:
    scene, found = variable_scene(), {}
    with global_generators_unmoved():
        for seeds in (SEEDS, (5,), (5, 3)):
            variable, randomness = make().bind(generators()), Randomness(seeds)
            start = variable.start(scene, randomness)
            resized = variable.resize(start, SIZE, (24, 30))
            look = variable.look(resized, variable_scene((24, 30)), randomness, 7)
            at = seeds.index(5)
            found[seeds] = [t[at] for t in (*start.values(), *resized.values(), look)]
    alone = found[(5,)]
    for other in (found[SEEDS], found[(5, 3)]):
        for a, b in zip(alone, other, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)
    assert torch.equal(alone[0], found[SEEDS][0])


@every_variable
def test_gradients_reach_every_tensor_of_a_variable(make: Callable[[], Variable]) -> None:
    variable, randomness = make().bind(generators()), Randomness((0, 1))
    start = variable.start(variable_scene(), randomness)
    params = {name: param.clone().requires_grad_() for name, param in start.items()}
    variable.look(params, variable_scene(), randomness, 0)[0].sum().backward()
    for name, param in params.items():
        if name in variable.frame_names:  # the look is in a frame of its own
            continue
        assert param.grad is not None
        assert param.grad[0].any()
        assert not param.grad[1].any()


@pytest.mark.parametrize("inner", INNER_VARIABLES.values(), ids=INNER_VARIABLES)
@pytest.mark.parametrize("wrap", [Hold, Jitter])
def test_a_wrapper_hands_on_all_that_it_does_not_change(
    wrap: type[Hold | Jitter], inner: Variable
) -> None:
    wrapper, plain = wrap(inner=inner).bind(generators()), inner.bind(generators())
    assert isinstance(wrapper, WrappedVariable)
    for what in ("names", "frame_names", "confines", "is_latent", "obstacle"):
        assert getattr(wrapper, what) == getattr(plain, what)
    assert wrapper.moves_pixels == (plain.moves_pixels or wrap is Jitter)
    scene, randomness = variable_scene(), Randomness(SEEDS)
    start = wrapper.start(scene, randomness)
    assert same(start, plain.start(scene, randomness))
    assert same(wrapper.centre(scene, randomness), plain.centre(scene, randomness))
    large = wrapper.resize(start, SIZE, (24, 30))
    assert same(large, plain.resize(start, SIZE, (24, 30)))
    far = {name: 9 * param for name, param in start.items()}
    near = {name: param.clone() for name, param in far.items()}
    wrapper.confine(far)
    plain.confine(near)
    assert same(far, near)
    if wrapper.frame_names:
        frames = [each.frame(start, scene) for each in (wrapper, plain)]
        assert same(*([frame.size, dict(frame.inputs)] for frame in frames))


@pytest.mark.parametrize("wrap", [Hold, Jitter])
def test_a_wrapper_around_jitter_jitters(wrap: type[Hold | Jitter]) -> None:
    variable = wrap(inner=Jitter(inner=Pixels(), pixels=6, at=16))
    scene, randomness = variable_scene(), Randomness(SEEDS)
    params = variable.start(scene, randomness)
    looks = [variable.look(params, scene, randomness, step) for step in range(3)]
    assert not torch.equal(looks[0], looks[1])
    assert not torch.equal(looks[1], looks[2])
    assert torch.equal(variable.still(looks[0], params, scene), variable.image(params, scene))


# ---------------------------------------------------------------------- optimizers


class Bowl:
    """A quadratic for each image, of another steepness in every number."""

    def __init__(self, batch: int) -> None:
        self.params = {"pixels": uniform(batch, 3, 4, 4, seed=1).requires_grad_()}
        self.goal = 0.2 + 0.6 * uniform(batch, 3, 4, 4, seed=2)
        self.steep = 0.5 + uniform(1, 3, 4, 4, seed=3)
        self.seeds = tuple(range(batch))

    def losses(self, points: Params | None = None) -> Tensor:
        at = (points or self.params)["pixels"]
        goal = self.goal.repeat_interleave(len(at) // len(self.goal), 0)
        return ((at - goal).square() * self.steep).sum((1, 2, 3))

    def go(self, optimizer: Optimizer, state: Any, start: int, stop: int) -> list[Tensor]:
        return [
            optimizer.step(
                FunctionLandscape(
                    self.losses, self.params, randomness=Randomness(self.seeds), step=step
                ),
                self.params,
                state,
                step=step,
                total=12,
            ).clone()
            for step in range(start, stop)
        ]


def batch_of(optimizer: Optimizer) -> int:
    return 1 if optimizer.couples_images else 2


@every_optimizer
def test_an_optimizer_is_a_frozen_record(make: Callable[[], Optimizer]) -> None:
    optimizer = make()
    field = dataclasses.fields(optimizer)[0].name  # type: ignore[arg-type]
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(optimizer, field, None)


@every_optimizer
def test_an_optimizer_lowers_a_quadratic_and_returns_the_losses_before_each_change(
    make: Callable[[], Optimizer],
) -> None:
    optimizer = make()
    bowl = Bowl(batch_of(optimizer))
    state, first = optimizer.init(bowl.params), bowl.losses().detach()
    losses = bowl.go(optimizer, state, 0, 12)
    assert optimizer.searches or torch.equal(losses[0], first)
    assert all(loss.shape == first.shape and not loss.requires_grad for loss in losses)
    optimizer.finish(bowl.params, state)
    if not optimizer.searches:
        assert (bowl.losses() < 0.7 * first).all()
    elif getattr(optimizer, "result", "best") == "best":
        assert (bowl.losses() <= losses[0]).all()


@every_optimizer
@pytest.mark.parametrize("carry", [lambda saved: saved, through_a_file], ids=["kept", "file"])
def test_a_saved_optimizer_goes_on_bit_for_bit(
    make: Callable[[], Optimizer], carry: Callable[[Any], Any]
) -> None:
    """Also where the saved state is kept in memory while the first run goes on."""
    optimizer = make()
    bowl = Bowl(batch_of(optimizer))
    state = optimizer.init(bowl.params)
    bowl.go(optimizer, state, 0, 5)
    saved = carry(optimizer.save(state))
    at_five = bowl.params["pixels"].detach().clone()
    wanted = bowl.go(optimizer, state, 5, 12)
    optimizer.finish(bowl.params, state)
    for _ in range(2):  # and a second time from the same saved state
        other = Bowl(batch_of(optimizer))
        other.params = {"pixels": at_five.clone().requires_grad_()}
        loaded = make().load(other.params, saved)
        assert same(wanted, other.go(optimizer, loaded, 5, 12))
        optimizer.finish(other.params, loaded)
        assert torch.equal(bowl.params["pixels"], other.params["pixels"])


@every_optimizer
def test_an_image_takes_the_same_steps_alone_unless_the_optimizer_says_otherwise(
    make: Callable[[], Optimizer],
) -> None:
    optimizer = make()
    if optimizer.couples_images:
        return
    together, alone = Bowl(2), Bowl(2)
    alone.params = {"pixels": alone.params["pixels"][1:].detach().clone().requires_grad_()}
    alone.goal, alone.seeds = alone.goal[1:], alone.seeds[1:]
    with global_generators_unmoved():
        for bowl in (together, alone):
            bowl.go(optimizer, optimizer.init(bowl.params), 0, 6)
    many, one = together.params["pixels"], alone.params["pixels"]
    torch.testing.assert_close(many[1:], one, rtol=1e-12, atol=0)


# ---------------------------------------------------------------------- around optimizers


def test_a_wrapped_optimizer_forwards_everything_there_is() -> None:
    public = {name for name in vars(Optimizer) if not name.startswith("_")}
    assert public <= vars(WrappedOptimizer).keys()


@every_optimizer
def test_a_wrapped_optimizer_is_what_it_wraps(make: Callable[[], Optimizer]) -> None:
    inner, names = make(), ("pixels", "z")
    outer = WrappedOptimizer(inner)
    for ask in (
        lambda one: (one.couples_images, one.obstacle, one.searches, one.restarts_in_place),
        lambda one: (one.moves(names), one.follows(names)),
        lambda one: [one.phase(step=step, total=12) for step in range(12)],
    ):
        assert ask(outer) == ask(inner)
    assert outer.trial() == WrappedOptimizer(inner.trial())
    ends = []
    for optimizer in (inner, outer):
        bowl = Bowl(batch_of(inner))
        state = optimizer.init(bowl.params)
        optimizer.schedule(state, step=0, total=12)
        losses = bowl.go(optimizer, state, 0, 6)
        state = optimizer.load(bowl.params, through_a_file(optimizer.save(state)))
        losses += bowl.go(optimizer, optimizer.restart(bowl.params, state), 6, 12)
        optimizer.finish(bowl.params, state)
        ends.append([losses, dict(bowl.params)])
    assert same(*ends)


@every_optimizer
def test_clip_keeps_what_any_optimizer_moves_or_draws_within_the_range(
    make: Callable[[], Optimizer],
) -> None:
    optimizer = Clip(make())
    bowl = Bowl(batch_of(optimizer))
    bowl.goal = 3 * bowl.goal - 1  # beyond both ends
    state = optimizer.init(bowl.params)
    for step in range(12):
        bowl.go(optimizer, state, step, step + 1)
        for pixels in (bowl.params, getattr(state, "candidates", bowl.params)):
            assert pixels["pixels"].min() >= 0
            assert pixels["pixels"].max() <= 1


@every_optimizer
def test_keep_best_ends_at_the_lowest_loss_of_any_optimizer(
    make: Callable[[], Optimizer],
) -> None:
    if make().searches:
        return
    bowl, optimizer = Bowl(batch_of(make())), KeepBest(make())
    state = optimizer.init(bowl.params)
    losses = torch.stack(bowl.go(optimizer, state, 0, 12))
    optimizer.finish(bowl.params, state)
    torch.testing.assert_close(bowl.losses().detach(), losses.amin(0), rtol=1e-12, atol=0)


# ---------------------------------------------------------------------- players


def begun(make: Callable[[], Player], seeds: tuple[int, ...] = SEEDS) -> Player:
    player = make()
    player.begin(make_scene(dtype=torch.float32), Randomness(seeds), purpose="players/x")
    return player


def pictures(step: int) -> Tensor:
    return uniform(3, 3, *SIZE, seed=step, dtype=torch.float32)


def frozen(player: Player) -> bool:
    return not any(w.requires_grad for network in networks(player) for w in network.parameters())


@every_player
def test_a_player_is_frozen_outside_its_updates(make: Callable[[], Player]) -> None:
    with global_generators_unmoved():
        player = begun(make)
        assert networks(player)
        assert frozen(player)
        player.learn(pictures(0), step=0)
        player.learn(pictures(1), step=1)
    assert frozen(player)
    player.load(player.save())
    assert frozen(player)


@every_player
@pytest.mark.parametrize("carry", [lambda saved: saved, through_a_file], ids=["kept", "file"])
def test_a_saved_player_goes_on_bit_for_bit(
    make: Callable[[], Player], carry: Callable[[Any], Any]
) -> None:
    player = begun(make)
    for step in range(2):
        player.learn(pictures(step), step=step)
    saved = carry(player.save())
    for step in range(2, 5):
        player.learn(pictures(step), step=step)
    for _ in range(2):
        other = begun(make)
        other.load(saved)
        for step in range(2, 5):
            other.learn(pictures(step), step=step)
        assert same(through_a_file(player.save()), through_a_file(other.save()))


@every_player
def test_a_player_learns_the_same_each_time(make: Callable[[], Player]) -> None:
    players = [begun(make), begun(make)]
    before = through_a_file(players[0].save())
    for player in players:
        for step in range(4):
            player.learn(pictures(step), step=step)
    assert same(players[0].save(), players[1].save())
    learnt = not same(before, through_a_file(players[0].save()))
    assert learnt or getattr(players[0], "when", "") == "before"

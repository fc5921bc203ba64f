from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from invertkit.errors import InputError, ShapeError
from invertkit.models.generators.biggan.config import BigGANConfig
from invertkit.models.generators.biggan.network import BigGANDeep
from invertkit.models.generators.class_maps import (
    ClassMap,
    Mixture,
    TakesClassMaps,
    check_weights,
    mixed,
)
from invertkit.models.generators.conditional import ConditionalGenerator
from tests.helpers import normal, uniform
from tests.models.generators.test_conditional import made

SHAPE = ((False, 2, 2), (True, 2, 1), (True, 1, 1))
NETS: dict[str, Callable[[], nn.Module]] = {
    "conditional": lambda: ConditionalGenerator(3, latent=5, embedding=4, widths=(8, 8, 6)),
    "class at start": lambda: ConditionalGenerator(
        3, latent=5, embedding=4, widths=(8, 6), class_at_start=True
    ),
    "biggan": lambda: BigGANDeep(
        BigGANConfig(
            layers=SHAPE, attention=2, channel_width=32, latent=5, embedding=4, classes=3, n_stats=2
        )
    ),
}


def net(name: str) -> nn.Module:
    network = made(NETS[name])
    for parameter in network.parameters():
        if parameter.numel() == 1:  # attention's gain, which begins at 0
            parameter.fill_(0.5)
    return network


def rows(net: nn.Module) -> Tensor:
    table: Tensor = net.embeddings.weight  # type: ignore[union-attr, assignment]
    return table.T


def maps_at(net: nn.Module, weights: Callable[[tuple[int, int]], Tensor]) -> tuple[Tensor, ...]:
    assert isinstance(net, TakesClassMaps)
    return tuple(weights(layer.shape) for layer in net.class_layers)


def random_weights(shape: tuple[int, int], *, classes: int = 3, seed: int = 0) -> Tensor:
    return torch.softmax(3 * normal(2, classes, *shape, seed=seed), 1)


# ---------------------------------------------------------------------- mixing


@given(seed=st.integers(0, 99), bias=st.booleans())
def test_gains_are_mixed_as_conditions_would_be(seed: int, bias: bool) -> None:  # noqa: FBT001
    parts = [nn.Linear(5, 7, bias=bias).double(), nn.Linear(5, 2, bias=bias).double()]
    told = Mixture(normal(2, 3, 5, seed=seed), random_weights((4, 6), seed=seed))
    with torch.no_grad():
        gains = mixed(lambda condition: tuple(part(condition) for part in parts), told)
        for part, gain in zip(parts, gains, strict=True):
            for row in range(4):
                for column in range(6):
                    place = torch.einsum("bk,bkn->bn", told.weights[:, :, row, column], told.rows)
                    torch.testing.assert_close(
                        gain[:, :, row, column], part(place), rtol=1e-12, atol=1e-12
                    )


# ---------------------------------------------------------------------- one class


@pytest.mark.parametrize("name", NETS)
@given(label=st.integers(0, 2), own=st.integers(0, 2), seed=st.integers(0, 9))
def test_one_class_everywhere_is_the_ordinary_picture_bit_for_bit(
    name: str, label: int, own: int, seed: int
) -> None:
    generator, latent = net(name).float(), normal(2, 5, seed=seed).float()
    table = rows(generator)
    plain = generator(latent, table[[label, own]])

    def of(shape: tuple[int, int]) -> Tensor:
        weights = torch.zeros(2, 3, *shape)
        weights[0, label] = weights[1, own] = 1
        return weights

    several = ClassMap(table[None].expand(2, -1, -1), maps_at(generator, of))
    assert torch.equal(generator(latent, several), plain)


@pytest.mark.parametrize("name", NETS)
def test_a_mixture_of_equal_classes_is_that_class(name: str) -> None:
    generator, latent = net(name), normal(2, 5)
    same = rows(generator)[:1].expand(2, 3, -1)
    maps = ClassMap(same, maps_at(generator, random_weights))
    torch.testing.assert_close(
        generator(latent, maps), generator(latent, same[:, 0]), rtol=1e-9, atol=1e-11
    )


# ---------------------------------------------------------------------- two halves


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("seed", [0, 1, 3])  # of seed 2 all channels of the last norm are dead
def test_each_half_far_from_the_border_is_that_of_its_class(name: str, seed: int) -> None:
    # In the last norm alone, behind which there are two convolutions at most: everything farther
    # than that from the border must not know of the other class.
    generator, latent = net(name), normal(1, 5, seed=seed)
    table = rows(generator)
    assert isinstance(generator, TakesClassMaps)
    last = len(generator.class_layers) - 1

    def in_last(columns: tuple[slice, ...]) -> Tensor:
        maps = []
        for number, layer in enumerate(generator.class_layers):  # type: ignore[attr-defined]
            weights = torch.zeros(1, 2, *layer.shape, dtype=torch.float64)
            if number < last:
                weights[:, 0] = 1
            else:
                for label, part in enumerate(columns):
                    weights[:, label, :, part] = 1
            maps.append(weights)
        made: Tensor = generator(latent, ClassMap(table[None, :2], maps))
        return made

    width = generator.class_layers[-1].shape[1]
    everything, nothing = slice(None), slice(0, 0)
    halves = in_last((slice(0, width // 2), slice(width // 2, None)))
    left, right = in_last((everything, nothing)), in_last((nothing, everything))
    edge, middle = width // 2 - 3, width // 2 + 3
    torch.testing.assert_close(halves[..., :edge], left[..., :edge], rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(halves[..., middle:], right[..., middle:], rtol=1e-10, atol=1e-12)
    assert (left - right).abs().amax() > 1e-3


@pytest.mark.parametrize("name", NETS)
def test_a_place_of_any_layer_takes_the_class_that_it_is_told(name: str) -> None:
    # Compared layer by layer with the network run on each class alone, given the same features.
    generator, latent = net(name), normal(2, 5)
    table, seen = rows(generator), {}
    assert isinstance(generator, TakesClassMaps)
    layers = generator.class_layers
    weights = maps_at(generator, random_weights)
    norms = [layer.name for layer in layers if not layer.name.endswith("start")]
    hooks = [
        generator.get_submodule(each).register_forward_hook(
            lambda module, inputs, output, each=each: seen.update({each: (inputs[0], output)})
        )
        for each in norms
    ]
    generator(latent, ClassMap(table[None].expand(2, -1, -1), weights))
    for hook in hooks:
        hook.remove()
    for layer, weight in zip(layers, weights, strict=True):
        if layer.name not in seen:
            continue
        features, output = seen[layer.name]
        assert features.shape[-2:] == layer.shape
        embedding = torch.einsum("bkhw,kn->bhwn", weight, table)
        row, column = layer.shape[0] // 2, layer.shape[1] - 1
        condition = torch.cat([latent, embedding[:, row, column]], 1)
        alone = generator.get_submodule(layer.name)(features, condition)
        torch.testing.assert_close(
            output[:, :, row, column], alone[:, :, row, column], rtol=1e-10, atol=1e-12
        )


def test_gradients_of_weights_and_embeddings_are_true() -> None:
    generator, latent = net("class at start"), normal(1, 5)
    pull = normal(1, 3, 8, 8, seed=5)
    embeddings = rows(generator)[None].clone().requires_grad_()
    free = [normal(1, 3, *shape, seed=2).requires_grad_() for shape in ((4, 4), (4, 4), (8, 8))]

    def loss(embeddings: Tensor, *free: Tensor) -> Tensor:
        maps = ClassMap(embeddings, [torch.softmax(each, 1) for each in free])
        made: Tensor = generator(latent, maps)
        return (made * pull).sum()

    assert torch.autograd.gradcheck(loss, (embeddings, *free), atol=1e-6)


# ---------------------------------------------------------------------- faults


@given(seed=st.integers(0, 50), excess=st.floats(0.001, 1))
def test_weights_are_checked(seed: int, excess: float) -> None:
    weights = random_weights((3, 3), seed=seed)
    check_weights(weights)
    wrong = weights.clone()
    wrong[0, 1, 1, 1] += excess
    with pytest.raises(InputError, match="sum to 1 at every place; at 6%"):
        check_weights(wrong)
    below = weights.clone()
    below[0, 0] -= 2
    below[0, 1] += 2
    with pytest.raises(InputError, match="cannot weigh less than 0"):
        check_weights(below)
    with pytest.raises(InputError, match="NaN"):
        check_weights(weights * float("nan"))


def test_a_map_fits_its_embeddings_and_its_network() -> None:
    table = uniform(2, 3, 4)
    with pytest.raises(ShapeError, match=r"layer 1 wants .* \(2, 3\)"):
        ClassMap(table, (random_weights((4, 4)), random_weights((4, 4), classes=2)))
    generator = net("conditional")
    with pytest.raises(ShapeError, match="in 4 layers; the map has weights for 1"):
        generator(normal(2, 5), ClassMap(table, (random_weights((4, 4)),)))


def test_rows_are_the_pictures_of_the_whole() -> None:
    generator, latent = net("biggan"), normal(2, 5)
    maps = ClassMap(rows(generator)[None].expand(2, -1, -1), maps_at(generator, random_weights))
    whole = generator(latent, maps)
    assert len(maps) == 2
    torch.testing.assert_close(
        generator(latent[1:], maps.rows(1, 2)), whole[1:], rtol=1e-10, atol=1e-12
    )

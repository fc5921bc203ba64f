from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from invertkit.errors import InputError, ShapeError
from invertkit.models.generators.class_maps import ClassMap
from invertkit.models.generators.class_weights import weights_of_labels
from invertkit.models.generators.collage import class_layers, collaged
from invertkit.models.generators.generator import Generator
from invertkit.models.generators.latents import ClassEmbedding, latent_and_class
from tests.helpers import normal
from tests.models.generators.test_class_maps import net

NAMES = ("ant", "bee", "cat")


def generator(name: str = "conditional") -> Generator:
    return Generator(net(name).float(), latents=latent_and_class(5, names=NAMES))


def drawn(made_by: Generator, *labels: int) -> dict[str, Tensor]:
    latent = normal(len(labels), 5).float()
    return {"latent": latent, "embedding": made_by.tables["embedding"][list(labels)]}


@pytest.mark.parametrize("name", ["conditional", "class at start", "biggan"])
@given(label=st.integers(0, 2))
def test_one_class_everywhere_is_the_ordinary_picture_bit_for_bit(name: str, label: int) -> None:
    draws = generator(name)
    latents = drawn(draws, 0, 1)
    everywhere = weights_of_labels(torch.full((1, 1, 16, 16), 1), ("own", NAMES[label]))
    plain = draws.generate(**{**latents, "embedding": draws.tables["embedding"][[label, label]]})
    assert torch.equal(draws.generate(**collaged(draws, latents, everywhere, [label])), plain)
    nowhere = weights_of_labels(torch.zeros(1, 1, 16, 16, dtype=torch.int64), NAMES)
    own = draws.generate(**collaged(draws, latents, nowhere, NAMES[:2]))
    assert torch.equal(own, draws.generate(**latents))


@pytest.mark.parametrize("choice", ["none", "first", "late", [1], {2: 0.5}])
def test_only_the_chosen_layers_are_told(choice: object) -> None:
    draws = generator()
    latents = drawn(draws, 0)
    right = torch.zeros(1, 1, 16, 16, dtype=torch.int64)
    right[..., 8:] = 1
    told = collaged(
        draws, latents, weights_of_labels(right, NAMES[:2]), ["cat"], layers=choice  # type: ignore[arg-type]
    )["embedding"]  # fmt: skip
    assert isinstance(told, ClassMap)
    most = [float(weights[:, 1].max()) for weights in told.weights]
    expected = {"none": (0, 0, 0, 0), "first": (1, 0, 0, 0), "late": (0, 0, 0, 1)}
    wanted = expected.get(str(choice), (0, 1, 0, 0) if choice == [1] else (0, 0, 0.5, 0))
    assert most == pytest.approx(wanted, abs=0.05)


def test_strength_goes_from_the_own_class_to_the_map() -> None:
    draws = generator()
    latents = drawn(draws, 0)
    weights = weights_of_labels(torch.ones(1, 1, 16, 16, dtype=torch.int64), NAMES[:2])

    def at(strength: float) -> Tensor:
        return draws.generate(**collaged(draws, latents, weights, ["bee"], strength=strength))

    assert torch.equal(at(0), draws.generate(**latents))
    between = draws.tables["embedding"][:2].mean(0, keepdim=True)
    torch.testing.assert_close(
        at(0.5), draws.generate(**{**latents, "embedding": between}), rtol=0, atol=1e-5
    )


def test_tuned_weights_draw_class_maps_too() -> None:
    draws = generator()
    latents = drawn(draws, 0, 1)
    weights = torch.softmax(normal(1, 2, 16, 16).float(), 1)
    maps = collaged(draws, latents, weights, ["cat"])
    none = torch.zeros(2, draws.tunable_size())
    torch.testing.assert_close(
        draws.generate_with(none, **maps), draws.generate(**maps), rtol=0, atol=1e-5
    )


def test_faults_are_told_in_a_sentence() -> None:
    draws, half = generator(), torch.full((1, 2, 4, 4), 0.5)
    latents = drawn(draws, 0)
    with pytest.raises(InputError, match=r"Unknown class 'bea'.*Did you mean 'bee'"):
        collaged(draws, latents, half, ["bea"])
    with pytest.raises(ShapeError, match="of 2 others, 3 in all; got 2"):
        collaged(draws, latents, half, ["bee", "cat"])
    with pytest.raises(InputError, match="sum to 1"):
        collaged(draws, latents, half * 0.9, ["bee"])
    body = nn.Sequential(nn.Linear(5, 48), nn.Unflatten(1, (3, 4, 4)))
    with pytest.raises(InputError, match="no class embedding, so there are no classes"):
        class_layers(Generator(body, latents={"z": 5}))
    by_class = Generator(body, latents={"kind": ClassEmbedding(torch.eye(5))})
    with pytest.raises(InputError, match="takes no class maps"):
        class_layers(by_class)

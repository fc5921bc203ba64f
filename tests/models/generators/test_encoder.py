from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from invertkit.errors import InputError
from invertkit.models.generators.encoder import Encoder
from tests.helpers import uniform


class Extremes(nn.Module):
    """The darkest and lightest value of each channel, and what else it is told."""

    def forward(self, image: Tensor, *told: Tensor) -> Tensor:
        return torch.cat([image.amin((2, 3)), image.amax((2, 3)), *told], 1)


def whole_range() -> Tensor:
    image = uniform(2, 3, 4, 4)
    image[:, :, 0, 0], image[:, :, 1, 1] = 0, 1
    return image


def test_an_encoder_is_given_pictures_as_it_was_trained() -> None:
    encoder = Encoder(Extremes(), gives="z", takes="kind", size=4)
    found = encoder.encode(whole_range(), kind=torch.zeros(2, 1).double(), other=torch.ones(1))
    assert list(found) == ["z"]
    assert found["z"].tolist() == [[-1, -1, -1, 1, 1, 1, 0]] * 2
    plain = Encoder(Extremes(), gives="z", size=4, input_range=(0, 255))
    assert plain.encode(whole_range())["z"].tolist() == [[0, 0, 0, 255, 255, 255]] * 2


class Two(nn.Module):
    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, image: Tensor) -> Any:
        return self.kind((("w", image.amin((2, 3))), ("noise", image.amax((2, 3)))))


@pytest.mark.parametrize("kind", [lambda pairs: tuple(each for _, each in pairs), dict])
def test_several_latents_come_by_name(kind: Any) -> None:
    found = Encoder(Two(kind), gives=("w", "noise"), size=4).encode(whole_range())
    assert {name: rows.tolist()[0] for name, rows in found.items()} == {
        "w": [-1, -1, -1], "noise": [1, 1, 1],
    }  # fmt: skip


def test_what_an_encoder_does_not_give_is_told() -> None:
    with pytest.raises(InputError, match="gives: an encoder gives at least one latent"):
        Encoder(Extremes(), gives=(), size=4)
    with pytest.raises(InputError, match="a meter wants kind beside the picture"):
        Encoder(
            Extremes(), gives="z", takes="kind", size=4, description="a meter"
        ).encode(whole_range())  # fmt: skip
    for gives, kind in ((("w",), dict), (("w", "z"), dict), (("w", "noise", "z"), list)):
        with pytest.raises(InputError, match="a meter was to give"):
            Encoder(Two(kind), gives=gives, size=4, description="a meter").encode(whole_range())

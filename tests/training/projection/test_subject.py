"""What is compared, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from invertkit.errors import InputError
from invertkit.training.projection.subject import Subject, open_encoder, open_subject
from tests.helpers import tiny_classifier, uniform
from tests.latents import plain_generator, style_generator
from tests.models.generators.sngan.chainer import (
    discriminator_file,
    encoder_file,
    generator_file,
    write,
)
from tests.training.projection.tiny import SIDE, tiny_subject


@given(seed=st.integers(0, 10**6), pixels=st.floats(0, 2))
def test_the_distance_is_the_angle_and_the_pixels(seed: int, pixels: float) -> None:
    subject = tiny_subject()
    pictures, photographs = (uniform(2, 3, SIDE, SIDE, seed=seed + k) for k in range(2))
    goal = subject.directions(photographs)
    away = subject.distance(pictures, photographs, goal, pixels=pixels)
    judge = subject.discriminator
    for row in range(2):
        a, b = (
            judge.observe(images[row : row + 1], ("layer2",))["layer2"].flatten()
            for images in (pictures, photographs)
        )
        squared = ((2 * pictures[row] - 1) - (2 * photographs[row] - 1)).square().mean()
        wanted = 1 - F.cosine_similarity(a, b, dim=0) + pixels * squared
        torch.testing.assert_close(away[row], wanted)
    same = subject.distance(photographs, photographs, goal, pixels=pixels)
    torch.testing.assert_close(same, torch.zeros_like(same), rtol=0, atol=1e-12)


def test_a_generator_of_other_latents_is_refused() -> None:
    judge = tiny_classifier(torch.float64)
    for generator in (plain_generator(), style_generator()):
        with pytest.raises(InputError, match=r"--generator: a .* takes more or less than a latent"):
            Subject(generator, judge)


def test_sngan_opens_from_its_folder(tmp_path: Path) -> None:
    write(tmp_path / "ResNetGenerator_1.npz", generator_file(128, unit=1))
    write(tmp_path / "SNResNetProjectionDiscriminator_1.npz", discriminator_file(128, unit=1))
    write(tmp_path / "ResNetEncoder_1.npz", encoder_file(128, unit=1))
    subject = open_subject(tmp_path, None)
    assert subject.layers == ("features",)
    made = subject.pictures(torch.zeros(2, subject.numbers), torch.tensor([0, 4]))
    assert made.shape == (2, 3, 128, 128)
    encoder = open_encoder(None, generator=tmp_path)
    assert encoder.gives == (subject.latent,)
    alone = tmp_path / "ResNetGenerator_1.npz"
    with pytest.raises(InputError, match=r"--discriminator: .* holds a generator alone"):
        open_subject(alone, None)
    with pytest.raises(InputError, match=r"--encoder: .* holds a generator alone"):
        open_encoder(None, generator=alone)

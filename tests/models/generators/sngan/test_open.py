"""SNGAN as a model of a recipe."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import invertkit
from invertkit.errors import WeightsError
from invertkit.models.generators.collage import collaged
from invertkit.models.generators.feature_blend import FeatureSource, blended
from invertkit.models.generators.sngan.open import (
    published_file,
    sngan,
    sngan_discriminator,
    sngan_encoder,
)
from tests.helpers import normal, uniform
from tests.models.generators.sngan.chainer import (
    CLASSES,
    LATENT,
    auxiliary_entries,
    discriminator_file,
    encoder_file,
    generator_file,
    write,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As the published files lie, in small."""
    folder = tmp_path_factory.mktemp("sngan")
    write(folder / "ResNetGenerator_450000.npz", generator_file(128))
    write(folder / "ResNetGenerator_5000.npz", generator_file(128, seed=7))
    write(folder / "SNResNetProjectionDiscriminator_450000.npz", discriminator_file(128))
    write(folder / "ResNetEncoder_450000.npz", encoder_file(128))
    return folder


def test_a_folder_of_published_files_opens_as_three_models(folder: Path) -> None:
    generator, judge = sngan(weights=folder), sngan_discriminator(weights=folder)
    encoder = sngan_encoder(weights=folder)
    assert "ResNetGenerator_450000.npz" in generator.description  # the longest trained
    assert {name: spec.shape for name, spec in generator.latents.items()} == {
        "latent": (LATENT,), "embedding": (CLASSES,),
    }  # fmt: skip
    assert generator.size == judge.size == encoder.size == 128
    picture = uniform(2, 3, 128, 128, dtype=torch.float32)
    known = generator.tables["embedding"][[1, 3]]
    latent = encoder.encode(picture, embedding=known)["latent"]
    made = generator.generate(latent=latent, embedding=known)
    assert made.min() >= 0
    assert made.max() <= 1
    # Ψ: before the sum over places, 512·16 numbers at the published width.
    assert judge.observe(made, judge.resolve(["default"]))["features"].shape == (2, 16, 4, 4)


def test_the_encoder_sees_photographs_as_bytes_by_128(folder: Path) -> None:
    encoder, one = sngan_encoder(weights=folder), torch.eye(CLASSES)[:1]
    levels = torch.arange(256.0).expand(3, 128, 256)[None, :, :, 64:192]
    direct = encoder.net(levels / 128 - 1, one)
    guess = encoder.encode(levels / 255, embedding=one)["latent"]
    torch.testing.assert_close(guess, direct, rtol=1e-4, atol=1e-5)


def test_the_classes_of_the_published_files_are_dogs_and_cats() -> None:
    generator = sngan(size=128, pretrained=False)
    assert generator.label("tabby") == 281 - 151
    assert torch.equal(generator.tables["embedding"], torch.eye(143))


def test_the_generator_beside_auxiliary_networks_is_taken_where_it_lies_alone(
    tmp_path: Path,
) -> None:
    entries = {**generator_file(128), **auxiliary_entries()}
    write(tmp_path / "ResNetAuxABGenerator_100.npz", entries)
    assert sngan(weights=tmp_path).size == 128


def test_labels_are_collaged_and_features_blended(folder: Path) -> None:
    generator = sngan(weights=folder)
    latents = {
        "latent": normal(1, LATENT, dtype=torch.float32),
        "embedding": generator.tables["embedding"][:1],
    }
    plain = generator.generate(**latents)
    whole = torch.tensor([1.0, 0.0])[None, :, None, None].expand(1, 2, 8, 8)
    assert torch.equal(generator.generate(**collaged(generator, latents, whole, [2])), plain)
    other = {**latents, "embedding": generator.tables["embedding"][2:3]}
    swapped = collaged(generator, latents, whole.flip(1), [2])
    assert torch.equal(generator.generate(**swapped), generator.generate(**other))
    blend = blended(generator, latents, [FeatureSource(other, torch.ones(1, 1, 4, 4))])
    torch.testing.assert_close(blend, generator.generate(**other))


def test_missing_files_are_told_by_what_they_are_called(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"get ResNetGenerator_\*\.npz or .* name the folder"):
        sngan()
    with pytest.raises(WeightsError, match=r"holds no SNResNetProjectionDiscriminator_\*\.npz"):
        sngan_discriminator(weights=tmp_path)
    with pytest.raises(WeightsError, match="no such weights file"):
        sngan_encoder(weights=tmp_path / "none.npz")
    assert published_file(tmp_path / "any.npz", (), option="") == tmp_path / "any.npz"


def test_a_photograph_is_projected_and_edited(tmp_path: Path) -> None:
    small: dict[str, int] = {"unit": 1, "classes": 143}
    write(tmp_path / "ResNetGenerator_1.npz", generator_file(128, **small))
    write(tmp_path / "SNResNetProjectionDiscriminator_1.npz", discriminator_file(128, **small))
    write(tmp_path / "ResNetEncoder_1.npz", encoder_file(128, **small))
    models = ("generator", "discriminator", "encoder")
    result = invertkit.run(
        "project-manifold",
        image=uniform(3, 24, 24, dtype=torch.float32),
        mask=torch.ones(24, 24).tril(),
        choices={"generator": "sngan"},
        overrides={
            **{f"models.{name}.weights": str(tmp_path) for name in models},
            "stages.search": {"steps": 2, "size": 128},
        },
        out=tmp_path / "run",
        device="cpu",
    )
    assert result.tensors["embedding"].shape == (1, 143)
    edited = invertkit.edit(tmp_path / "run", label="tiger", size=24, device="cpu")
    assert edited.generated.shape == (1, 3, 128, 128)

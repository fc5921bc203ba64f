from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from invertkit.errors import InputError, InvertkitError, TapError, WeightsError
from invertkit.models.classifiers.open import EMBEDDED as CLASSIFIER
from invertkit.models.generators import open as generators
from invertkit.models.generators.generator import Encoder, Generator, ObjectStatistics
from invertkit.models.generators.open import (
    EMBEDDED,
    biggan,
    embedded_discriminator,
    embedded_encoder,
    embedded_generator,
)
from invertkit.models.loading.weights_file import metadata
from invertkit.recipe.registry import Registry
from tests.helpers import global_generators_unmoved, normal, uniform
from tests.latents import generator64

CATALOGUE: list[Callable[..., Any]] = [
    embedded_generator,
    embedded_discriminator,
    embedded_encoder,
]
every = pytest.mark.parametrize("make", CATALOGUE)


# ---------------------------------------------------------------------- the wrapper


def test_pictures_are_in_the_unit_range_and_weights_are_frozen() -> None:
    generator = generator64()
    pictures = generator.generate(normal(2, 5), generator.table[:2])
    torch.testing.assert_close(pictures * 2 - 1, generator.net(normal(2, 5), generator.table[:2]))
    assert pictures.min() >= 0
    assert pictures.max() <= 1
    assert not generator.net.training
    assert not any(weight.requires_grad for weight in generator.parameters())


def test_the_table_holds_a_row_for_every_class() -> None:
    generator = generator64(classes=4)
    assert torch.equal(generator.table[2], generator.net.embeddings(torch.eye(4).double())[2])
    assert generator.classes == ("0", "1", "2", "3")
    assert generator.statistics == ObjectStatistics((0.5, 0.5), (0.8, 0.8))


def test_layers_are_shown_while_a_picture_is_made_and_hooks_are_gone_after() -> None:
    generator = generator64()
    latent, embedding = normal(2, 5), generator.table[:2]
    seen = generator.features(latent, embedding, ["gen_z", "blocks.0"])
    assert set(seen) == {"gen_z", "blocks.0"}
    wanted = generator.net.gen_z(torch.cat([latent, embedding], 1))
    torch.testing.assert_close(seen["gen_z"], wanted)
    assert seen["blocks.0"].shape == (2, 8, 8, 8)
    with pytest.raises(TapError, match=r"^a tiny generator has no layer 'blocks\.9'"):
        generator.features(latent, embedding, ["gen_z", "blocks.9"])
    with pytest.raises(RuntimeError):
        generator.features(latent[:, :3], embedding, ["gen_z"])
    assert not any(module._forward_hooks for module in generator.modules())


def test_a_network_that_is_no_generator_is_refused() -> None:
    class Embedded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embeddings = nn.Embedding(3, 4)  # its rows are classes, not its columns

    for net in (nn.Linear(3, 4), Embedded()):
        with pytest.raises(InputError, match="A generator has class embeddings, a linear map in"):
            Generator(net, size=8, latent=5)
    with pytest.raises(InputError, match="has 3 classes; it was given 2 names"):
        generator64(names=("a", "b"))


def test_what_fine_tuning_changes_is_all_but_the_class_embeddings() -> None:
    generator = generator64()
    parameters = dict(generator.net.named_parameters())
    rest = {name for name in parameters if name not in generator.tunable()}
    assert rest == {"embeddings.weight"}
    count = sum(weight.numel() for weight in parameters.values())
    assert generator.tunable_size() == count - parameters["embeddings.weight"].numel()
    latent, table = normal(2, 5), generator.table[:2]
    nothing = torch.zeros(2, generator.tunable_size()).double()
    torch.testing.assert_close(
        generator.generate_with(nothing, latent, table), generator.generate(latent, table),
        rtol=1e-12, atol=1e-12,
    )  # fmt: skip


def test_an_encoder_is_given_pictures_as_it_was_trained() -> None:
    class Net(nn.Module):
        def forward(self, image: Tensor, embedding: Tensor) -> Tensor:
            return torch.cat([image.amin((2, 3)), image.amax((2, 3)), embedding], 1)

    image = uniform(2, 3, 4, 4)
    image[:, :, 0, 0], image[:, :, 1, 1] = 0, 1
    found = Encoder(Net(), size=4).encode(image, torch.zeros(2, 1).double())
    assert found.tolist() == [[-1, -1, -1, 1, 1, 1, 0]] * 2


# ---------------------------------------------------------------------- the shipped file


def test_the_shipped_file_is_small_and_says_what_it_is() -> None:
    assert EMBEDDED.stat().st_size < 12_000_000
    facts = {key: json.loads(value) for key, value in metadata(EMBEDDED).items()}
    assert facts["architecture"] == "kitgan"
    assert len(facts["classes"]) == 10
    assert "plan" in facts


@every
def test_the_catalogue_builds_from_the_shipped_file(make: Callable[..., Any]) -> None:
    with global_generators_unmoved():
        made = make()
    what = make.__name__.removeprefix("embedded_")
    assert made.description.startswith(f"the embedded KitGAN {what} (10 classes, 32×32, sha256 ")
    assert not any(weight.requires_grad for weight in made.parameters())
    named = Registry().load("model", make.__name__)()
    assert named.description == made.description
    again = make(weights=EMBEDDED)
    assert again.description.startswith(f"kitgan.safetensors's KitGAN {what} (10 classes, ")


def test_what_ships_works_together() -> None:
    generator, discriminator, encoder = (make() for make in CATALOGUE)
    latent, embedding = normal(2, generator.latent, dtype=torch.float32), generator.table[[3, 5]]
    pictures = generator.generate(latent, embedding)
    assert pictures.shape == (2, 3, 32, 32)
    assert pictures.std() > 0.05
    assert encoder.encode(pictures, embedding).shape == latent.shape
    layers = discriminator.resolve(["default"])
    seen = discriminator.observe(pictures, layers)
    assert [seen[name].shape[-1] for name in layers] == [16, 8, 4]
    centre, size = generator.statistics.centre, generator.statistics.size
    assert all(0 < share < 1 for share in (*centre, *size))


@every
def test_files_that_are_not_these_are_told(make: Callable[..., Any], tmp_path: Path) -> None:
    told = {
        tmp_path / "none.safetensors": "no such weights file",
        CLASSIFIER: "was not made by `invertkit train generator`",
    }
    whole = EMBEDDED.read_bytes()
    for name, data in (("half", whole[: len(whole) // 2]), ("head", whole[:100]), ("empty", b"")):
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(data)
        told[path] = "is not a whole safetensors file"
    plain = tmp_path / "plain.safetensors"
    save_file({"x": torch.zeros(1)}, plain)
    told[plain] = "its metadata names no kitgan"
    others = tmp_path / "others.safetensors"
    save_file({"x": torch.zeros(1)}, others, metadata={"format": "pt"})  # as the hub's files have
    told[others] = "its metadata names no kitgan"
    pickled = tmp_path / "weights.pt"
    torch.save({"x": torch.zeros(1)}, pickled)
    told[pickled] = "is not a whole safetensors file"
    told[tmp_path] = "no such weights file"
    for path, message in told.items():
        with pytest.raises(WeightsError, match=message) as raised:
            make(weights=path)
        assert str(raised.value).startswith(f"{path}: ")


@every
def test_files_that_lack_something_are_told(make: Callable[..., Any], tmp_path: Path) -> None:
    facts, tensors = metadata(EMBEDDED), load_file(EMBEDDED)
    part = make.__name__.removeprefix("embedded_")
    path = tmp_path / "w.safetensors"
    without = {key: value for key, value in facts.items() if key not in ("classes", "widths")}
    save_file(tensors, path, metadata=without)
    with pytest.raises(WeightsError, match="its metadata lacks classes, widths; train it again"):
        make(weights=path)
    others = {name: value for name, value in tensors.items() if not name.startswith(f"{part}.")}
    save_file(others, path, metadata=facts)
    with pytest.raises(
        WeightsError, match=r"w\.safetensors: belongs to another network .* missing"
    ):
        make(weights=path)
    name = next(name for name in tensors if name.startswith(part) and tensors[name].ndim > 1)
    save_file({**tensors, name: tensors[name][:1].clone()}, path, metadata=facts)
    with pytest.raises(WeightsError, match="1 of another shape"):
        make(weights=path)


def test_biggan_without_files_says_where_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"^biggan-deep-512 needs its published files: ") as told:
        biggan(name="biggan-deep-512")
    assert "--set models.generator.weights=FOLDER" in str(told.value)
    assert "embedded_generator" in str(told.value)
    with pytest.raises(WeightsError, match="biggan-deep-256 needs its published files"):
        Registry().load("model", "biggan")()
    with pytest.raises(InvertkitError):
        biggan(weights=tmp_path / "nowhere")


def test_classes_are_named_only_where_there_are_as_many_as_in_imagenet() -> None:
    assert len(generators._imagenet_classes(1000)) == 1000
    assert generators._imagenet_classes(7) == ()

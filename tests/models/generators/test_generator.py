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
from invertkit.models.classifiers.classifier import Classifier
from invertkit.models.generators import open as generators
from invertkit.models.generators.encoder import Encoder
from invertkit.models.generators.generator import Generator, ObjectStatistics
from invertkit.models.generators.latents import ClassEmbedding, LatentSpec
from invertkit.models.generators.open import (
    EMBEDDED,
    biggan,
    embedded_discriminator,
    embedded_encoder,
    embedded_generator,
)
from invertkit.models.loading.safetensors_file import metadata
from invertkit.recipe.registry import Registry
from tests.helpers import KITNET, global_generators_unmoved, normal
from tests.latents import generator64, style_generator

CATALOGUE: list[Callable[..., Any]] = [
    embedded_generator,
    embedded_discriminator,
    embedded_encoder,
]
every = pytest.mark.parametrize("make", CATALOGUE)


# ---------------------------------------------------------------------- the wrapper


def test_pictures_are_in_the_unit_range_and_weights_are_frozen() -> None:
    generator = generator64()
    latent, embedding = normal(2, 5), generator.tables["embedding"][:2]
    pictures = generator.generate(latent=latent, embedding=embedding)
    torch.testing.assert_close(pictures * 2 - 1, generator.net(latent, embedding))
    assert pictures.min() >= 0
    assert pictures.max() <= 1
    assert not generator.net.training
    assert not any(weight.requires_grad for weight in generator.parameters())


def test_the_table_holds_a_row_for_every_class() -> None:
    generator = generator64(classes=4)
    table = generator.tables["embedding"]
    assert torch.equal(table[2], generator.net.embeddings(torch.eye(4).double())[2])
    assert generator.classes == ("0", "1", "2", "3")
    assert generator.statistics == ObjectStatistics((0.5, 0.5), (0.8, 0.8))


def test_layers_are_shown_while_a_picture_is_made_and_hooks_are_gone_after() -> None:
    generator = generator64()
    latents = {"latent": normal(2, 5), "embedding": generator.tables["embedding"][:2]}
    shown = generator.features(["gen_z", "blocks.0", ""], **latents)
    assert set(shown) == {"gen_z", "blocks.0", ""}
    wanted = generator.net.gen_z(torch.cat([*latents.values()], 1))
    torch.testing.assert_close(shown["gen_z"], wanted)
    assert shown["blocks.0"].shape == (2, 8, 8, 8)
    torch.testing.assert_close(shown[""] / 2 + 0.5, generator.generate(**latents))
    with pytest.raises(TapError, match=r"^a tiny generator has no layer 'blocks\.9'"):
        generator.features(["gen_z", "blocks.9"], **latents)
    with pytest.raises(RuntimeError):
        generator.features(["gen_z"], **{**latents, "latent": normal(2, 3)})
    assert not any(module._forward_hooks for module in generator.modules())


def test_what_fine_tuning_changes_is_all_but_the_class_embeddings() -> None:
    generator = generator64()
    parameters = dict(generator.net.named_parameters())
    rest = {name for name in parameters if name not in generator.tunable()}
    assert rest == {"embeddings.weight"}
    count = sum(weight.numel() for weight in parameters.values())
    assert generator.tunable_size() == count - parameters["embeddings.weight"].numel()
    latents = {"latent": normal(2, 5), "embedding": generator.tables["embedding"][:2]}
    nothing = torch.zeros(2, generator.tunable_size()).double()
    torch.testing.assert_close(
        generator.generate_with(nothing, **latents), generator.generate(**latents),
        rtol=1e-12, atol=1e-12,
    )  # fmt: skip


# ---------------------------------------------------------------------- any latents


@pytest.mark.parametrize("output", [(-1.0, 1.0), (0.0, 1.0), (0.0, 255.0)])
def test_a_network_without_classes_needs_a_length_and_nothing_else(output: Any) -> None:
    net = nn.Sequential(nn.Linear(5, 3 * 4 * 6), nn.Sigmoid(), nn.Unflatten(1, (3, 4, 6)))
    with global_generators_unmoved():
        generator = Generator(net, latents={"z": 5}, output=output)
    low, high = output
    assert generator.shape == (4, 6)
    assert generator.classes == ()
    assert generator.tables == {}
    assert generator.leading == "z"
    z = normal(2, 5, dtype=torch.float32)
    torch.testing.assert_close(generator.generate(z=z) * (high - low) + low, net(z))
    assert len(generator.tunable()) == 2
    with pytest.raises(InputError, match="has no class embedding, so there is no class 'cat'"):
        generator.label("cat")
    assert generator.size == 6
    assert repr(generator) == "Generator(z (5,) → 4×6: a generator given from Python)"


def test_a_network_with_styles_and_noise_says_their_names_and_shapes() -> None:
    generator = style_generator()
    assert {name: spec.shape for name, spec in generator.latents.items()} == {
        "w": (3, 6), "noise": (1, 8, 8), "kind": (2,),
    }  # fmt: skip
    assert generator.size == 8
    assert generator.leading == "w"
    assert generator.classes == ("round", "square")
    rows = {
        "w": normal(2, 3, 6), "noise": normal(2, 1, 8, 8), "kind": generator.tables["kind"],
    }  # fmt: skip
    pictures = generator.generate(**rows)
    torch.testing.assert_close(pictures, generator.generate(**dict(reversed(rows.items()))))
    for name in rows:
        changed = generator.generate(**{**rows, name: rows[name] + 0.1})
        assert not torch.allclose(changed, pictures)
    with pytest.raises(InputError, match="takes w, noise and kind; got w and z"):
        generator.generate(w=rows["w"], z=rows["w"])


def test_the_tensors_of_a_declaration_follow_the_network() -> None:
    mean, table = torch.arange(6.0), torch.eye(2)
    generator = style_generator(mean=mean, table=table)
    assert generator.latents["w"].mean.dtype == generator.tables["kind"].dtype == torch.float64
    single = generator.float()
    assert single.latents["w"].mean.dtype == single.tables["kind"].dtype == torch.float32
    assert single.like.dtype == torch.float32
    assert single.net.tint.weight.dtype == torch.float32


class Wide(nn.Module):
    def forward(self, z: Tensor) -> Tensor:
        return z


@pytest.mark.parametrize(
    ("latents", "sentence"),
    [
        ({}, r"latents: a generator says what it takes, such as `latents=\{\"z\": 128\}`"),
        ({"z y": 5}, "latents: 'z y' cannot be the name of a latent"),
        ({"transform": 5}, "latents: 'transform' cannot be the name of a latent"),
        ({"z": "five"}, "latents: z has a length or a shape, not 'five'"),
        ({"z": (5, 0.5)}, r"latents: z has a shape of whole numbers, not \(5, 0.5\)"),
        ({"z": 0}, r"A latent's shape has whole sides above 0, got \(0,\)"),
        ({"z": 5}, r"makes pictures \(b, 3, h, w\); Wide makes \(1, 5\) of z \(1, 5\)"),
        ({"z": (1, 8, 8)}, r"Wide makes \(1, 1, 8, 8\) of z \(1, 1, 8, 8\)"),
        ({"z": (3, 8, 8), "y": 2}, "latents: Wide cannot be run on .*: .*positional arguments"),
        ({"z": (3, 8, 8), "y": ClassEmbedding("tint")}, "there is no layer at 'tint'"),
        ({"y": ClassEmbedding("")}, "there is a Wide at ''"),
        (
            {"y": ClassEmbedding(torch.eye(3)), "x": ClassEmbedding(torch.eye(2))},
            "know the same classes",
        ),
        ({"y": ClassEmbedding(torch.eye(3), ("a", "b"))}, "has 3 classes; it was given 2 names"),
    ],
)
def test_what_is_no_generator_is_told(latents: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        Generator(Wide(), latents=latents)


def test_a_range_that_is_none_is_told() -> None:
    with pytest.raises(InputError, match=r"output: expected the values of black and white, got"):
        Generator(Wide(), latents={"z": (3, 8, 8)}, output=(1.0, 1.0))


# ---------------------------------------------------------------------- the shipped file


def test_the_shipped_file_is_small_and_says_what_it_is() -> None:
    assert EMBEDDED.stat().st_size < 15_000_000
    facts = {key: json.loads(value) for key, value in metadata(EMBEDDED).items()}
    assert facts["architecture"] == "conditional-gan"
    assert len(facts["classes"]) == 16
    assert "plan" in facts


@every
def test_the_catalogue_builds_from_the_shipped_file(make: Callable[..., Any]) -> None:
    with global_generators_unmoved():
        made = make()
    what = make.__name__.removeprefix("embedded_")
    kind = f"class-conditional {what} (16 classes, 64×64, sha256 "
    assert made.description.startswith(f"the embedded {kind}")
    assert not any(weight.requires_grad for weight in made.parameters())
    named = Registry().load("model", make.__name__)()
    assert named.description == made.description
    again = make(weights=EMBEDDED)
    assert again.description.startswith(f"generator64.safetensors's {kind}")


def test_what_ships_works_together() -> None:
    generator, discriminator, encoder = (make() for make in CATALOGUE)
    latent = normal(2, generator.latents["latent"].numbers, dtype=torch.float32)
    embedding = generator.tables["embedding"][[3, 5]]
    pictures = generator.generate(latent=latent, embedding=embedding)
    assert pictures.shape == (2, 3, 64, 64)
    assert pictures.std() > 0.05
    assert encoder.encode(pictures, embedding=embedding)["latent"].shape == latent.shape
    layers = discriminator.resolve(["default"])
    seen = discriminator.observe(pictures, layers)
    assert [seen[name].shape[-1] for name in layers] == [6, 6, 6, 6, 3]
    centre, size = generator.statistics.centre, generator.statistics.size
    assert all(0 < share < 1 for share in (*centre, *size))


@every
def test_files_that_are_not_these_are_told(make: Callable[..., Any], tmp_path: Path) -> None:
    told = {
        tmp_path / "none.safetensors": "no such weights file",
        KITNET: "was not made by `invertkit train generator`",
    }
    whole = EMBEDDED.read_bytes()
    for name, data in (("half", whole[: len(whole) // 2]), ("head", whole[:100]), ("empty", b"")):
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(data)
        told[path] = "is not a whole safetensors file"
    plain = tmp_path / "plain.safetensors"
    save_file({"x": torch.zeros(1)}, plain)
    told[plain] = "its metadata do not name conditional-gan"
    others = tmp_path / "others.safetensors"
    save_file({"x": torch.zeros(1)}, others, metadata={"format": "pt"})  # as the hub's files have
    told[others] = "its metadata do not name conditional-gan"
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


def test_a_generator_wraps_a_module() -> None:
    with pytest.raises(InputError, match=r"wraps a torch\.nn\.Module, got <function"):
        Generator(lambda z: z, latents={"z": 5})  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"wraps a torch\.nn\.Module, got <function"):
        Encoder(lambda z: z, gives="z", size=8)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"wraps a torch\.nn\.Module, got <function"):
        Classifier(lambda z: z)  # type: ignore[arg-type]


def test_what_a_generator_takes_is_shown_on_one_line() -> None:
    assert repr(LatentSpec((3,), limit=2.0)) == "LatentSpec((3,), limit=2.0)"
    spec = LatentSpec((2, 3), mean=torch.zeros(3))
    assert repr(spec) == "LatentSpec((2, 3), mean: a tensor (3,))"
    assert repr(ClassEmbedding("embed", ["cat", "dog"])) == "ClassEmbedding(embed, 2 names)"
    assert repr(ClassEmbedding(torch.zeros(2, 4))) == "ClassEmbedding(a table (2, 4))"

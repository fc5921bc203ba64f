"""Published files in small: every entry is accounted for, and networks are the restated ones."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from invertkit.errors import WeightsError
from invertkit.models.generators.class_maps import ClassMap
from invertkit.models.generators.sngan.chainer_file import (
    load_discriminator,
    load_encoder,
    load_generator,
    plain_names,
    without_spectral_norm,
)
from tests.helpers import normal, uniform
from tests.models.generators.sngan.chainer import (
    CLASSES,
    LATENT,
    Restated,
    auxiliary_entries,
    discriminator_file,
    encoder_file,
    generator_file,
    write,
)

FILES = {
    "generator": (generator_file, load_generator),
    "discriminator": (discriminator_file, load_discriminator),
    "encoder": (encoder_file, load_encoder),
}


def agree(net: Tensor, plain: np.ndarray) -> None:
    # Spectral norms are divided out into float32 weights, the one place of the less digits.
    torch.testing.assert_close(net, torch.from_numpy(plain), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("size", [128, 256])
def test_the_generator_is_the_restated_one(size: int, tmp_path: Path) -> None:
    entries = generator_file(size, unit=1)
    net = load_generator(write(tmp_path / "g.npz", entries)).double()
    latent, weights = normal(2, LATENT), uniform(2, CLASSES, seed=1)
    weights = weights / weights.sum(1, keepdim=True)
    plain = Restated(entries, size).generator(latent.numpy(), weights.numpy()[:, :, None, None])
    assert plain.shape == (2, 3, size, size)
    agree(net(latent, weights), plain)


def test_the_generator_takes_a_map_of_classes(tmp_path: Path) -> None:
    entries = generator_file(128, unit=1)
    net = load_generator(write(tmp_path / "g.npz", entries)).double()
    latent, weights = normal(1, LATENT), uniform(1, CLASSES, 128, 128, seed=1)
    weights = weights / weights.sum(1, keepdim=True)
    at_layers = tuple(F.adaptive_avg_pool2d(weights, layer.shape) for layer in net.class_layers)
    assert [layer.shape[0] for layer in net.class_layers] == [4, 8, 8, 16, 16, 32, 32, 64, 64, 128]
    picture = net(latent, ClassMap(torch.eye(CLASSES).double()[None], at_layers))
    agree(picture, Restated(entries, 128).generator(latent.numpy(), weights.numpy()))


@pytest.mark.parametrize("size", [128, 256])
def test_the_discriminator_is_the_restated_one(size: int, tmp_path: Path) -> None:
    entries = discriminator_file(size, unit=1)
    net = load_discriminator(write(tmp_path / "d.npz", entries)).double()
    image = uniform(2, 3, size, size) * 2 - 1
    features, scores = Restated(entries, size).discriminator(image.numpy())
    seen: list[Tensor] = []
    net.features.register_forward_hook(lambda _, __, output: seen.append(output))
    agree(net(image), scores)
    assert features.shape[2:] == (4, 4)
    agree(seen[0], features)


@pytest.mark.parametrize("size", [128, 256])
def test_the_encoder_is_the_restated_one(size: int, tmp_path: Path) -> None:
    entries = encoder_file(size, unit=1)
    net = load_encoder(write(tmp_path / "e.npz", entries)).double()
    image, weights = uniform(2, 3, size, size) * 2 - 1, torch.eye(CLASSES).double()[:2]
    plain = Restated(entries, size).encoder(image.numpy(), weights.numpy()[:, :, None, None])
    agree(net(image, weights), plain)


@given(kind=st.sampled_from(sorted(FILES)), size=st.sampled_from([128, 256]), data=st.data())
@settings(max_examples=30)
def test_every_entry_counts(kind: str, size: int, data: st.DataObject) -> None:
    """Without one, with one more, or with one of another shape a file is refused by name."""
    make, load = FILES[kind]
    entries = make(size, unit=1)
    idle = ("/N", "b7/") if kind == "encoder" and size == 128 else ("/N",)
    name = data.draw(st.sampled_from([n for n in entries if not n.endswith(idle[0])]))
    fault = data.draw(st.sampled_from(["lacks", "has one more", "has another shape"]))
    if kind == "encoder" and size == 128 and name.startswith("b7/"):
        fault = "has another shape"
    if fault == "lacks":
        del entries[name]
    elif fault == "has one more":
        entries[f"{name.rpartition('/')[0]}/strange"] = np.zeros(3, np.float32)
    else:
        entries[name] = np.zeros((*entries[name].shape[:-1], entries[name].shape[-1] + 1))
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "w.npz", entries)
        if fault == "lacks" and name.endswith("/u"):
            # A weight without its vector is a plain weight: nothing in the file tells otherwise.
            load(path)
            return
        with pytest.raises(WeightsError, match=r"w\.npz"):
            load(path)


def test_a_file_with_auxiliary_networks_holds_the_same_generator(tmp_path: Path) -> None:
    entries = generator_file(128)
    alone = load_generator(write(tmp_path / "g.npz", entries))
    both = load_generator(write(tmp_path / "ab.npz", {**entries, **auxiliary_entries()}))
    for name, value in alone.state_dict().items():
        assert torch.equal(value, both.state_dict()[name])


@pytest.mark.parametrize("kind", sorted(FILES))
def test_a_file_of_another_network_is_refused(kind: str, tmp_path: Path) -> None:
    for other in FILES.keys() - {kind}:
        path = write(tmp_path / f"{other}.npz", FILES[other][0](128))
        with pytest.raises(WeightsError, match=f"is no Chainer file of an SNGAN {kind}"):
            FILES[kind][1](path)


@given(
    rows=st.integers(1, 5), columns=st.integers(1, 6), seed=st.integers(0, 10**6),
    scale=st.floats(0.01, 100),
)  # fmt: skip
def test_the_spectral_norm_is_a_lower_bound_that_a_good_vector_reaches(
    rows: int, columns: int, seed: int, scale: float
) -> None:
    weight = normal(rows, columns, seed=seed)
    singular = torch.linalg.svdvals(weight)[0]
    rough = without_spectral_norm(weight, normal(1, rows, seed=seed + 1), name="w")
    assert torch.linalg.svdvals(rough.double())[0] >= 1 - 1e-5
    best = torch.linalg.svd(weight)[0][:, :1].T
    exact = without_spectral_norm(weight, best, name="w")
    torch.testing.assert_close(exact.double(), weight / singular, rtol=1e-5, atol=1e-6)
    # The norm goes along with the weight, so its scale is nothing.
    again = without_spectral_norm(weight * scale, best, name="w")
    torch.testing.assert_close(again, exact, rtol=1e-5, atol=1e-6)


def test_a_vector_that_fits_no_weight_is_refused() -> None:
    with pytest.raises(WeightsError, match=r"its vector u is \(1, 3\), expected \(1, 2\)"):
        without_spectral_norm(torch.ones(2, 2), torch.ones(1, 3), name="c/W")
    with pytest.raises(WeightsError, match="its spectral norm is 0"):
        without_spectral_norm(torch.zeros(2, 2), torch.ones(1, 2), name="c/W")


def test_a_vector_without_a_weight_is_refused() -> None:
    with pytest.raises(WeightsError, match="1 entries are not known"):
        plain_names({"c/u": torch.ones(1, 2)}, name="f")

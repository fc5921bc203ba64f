"""Files of auxiliary networks: those of `invertkit train zeta`, and the published Chainer file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from invertkit.errors import InputError, WeightsError
from invertkit.models.generators.sngan.chainer_file import AUXILIARY, entry, plain_names
from invertkit.models.generators.sngan.open import published_file
from invertkit.models.generators.zeta import RATE, AuxiliaryNetworks, ZetaShape, ZetaSpace
from invertkit.models.loading.npz_file import read_npz
from invertkit.models.loading.safetensors_file import as_half, read_facts, save_in_order
from invertkit.models.loading.weights_file import cited, load_into, read_weights

ARCHITECTURE: Final = "zeta"
"""What the metadata call the networks that `invertkit train zeta` makes."""
_PUBLISHED: Final[Mapping[str, str]] = {
    "lA1": "a1", "lA2": "a2", "lB1": "b1", "lB2": "b2",
    "preluMiddleW": "a_slopes", "preluW": "b_slopes", "_fast_alpha": "rates",
}  # fmt: skip


def zeta(*, weights: Path | None = None) -> ZetaSpace:
    """The auxiliary space of a generator: of `invertkit train zeta`, or of SNGAN's published file.

    Args:
        weights: `zeta.safetensors` as the training left it; or `ResNetAuxABGenerator_*.npz`, or
            the folder that holds it, whose generator is left out.

    Raises:
        WeightsError: No file, or not one of these.

    Source: Suzuki et al. 2018, supplement B.
    """
    if weights is None:
        raise WeightsError(
            "An auxiliary space belongs to one generator, so it has to be named: train it by "
            "`invertkit train zeta`, then `--set models.zeta.weights=FOLDER/zeta.safetensors`; for "
            "SNGAN name the folder with ResNetAuxABGenerator_*.npz."
        )
    path = Path(weights)
    if path.suffix == ".safetensors" and path.is_file():
        return _trained(path)
    path = published_file(path, ("ResNetAuxABGenerator",), option="zeta")
    networks = load_auxiliary(path)
    return ZetaSpace(networks, description=f"SNGAN's {_sized(networks.shape)} ({cited(path)})")


def load_auxiliary(path: Path) -> AuxiliaryNetworks:
    """The auxiliary networks of `ResNetAuxABGenerator_*.npz`, without the generator beside them.

    Where the file was written without `learned_lr` it holds no rates; they are 2·10⁻⁴ then.

    Args:
        path: The file.

    Raises:
        WeightsError: Missing, damaged, or without the auxiliary networks.
    """
    everything, name = read_npz(path), str(path)
    entries = {k: v for k, v in everything.items() if k.partition("/")[0] in AUXILIARY}
    what = "auxiliary networks"
    first = entry(everything, "lA1/W", dims=2, name=name, what=what)
    second = entry(everything, "lA2/W", dims=2, name=name, what=what)
    shape = ZetaShape(first.shape[1], zeta=len(second), hidden=len(first))
    state: dict[str, Tensor] = {}
    for key, value in plain_names(entries, name=name).items():
        link, _, leaf = key.rpartition(".")
        state[_PUBLISHED[link] if link == "_fast_alpha" else f"{_PUBLISHED[link]}.{leaf}"] = value
    state.setdefault("rates", torch.full((shape.zeta,), RATE))
    return _filled(shape, state, name=name)


def save_zeta(
    networks: AuxiliaryNetworks, path: Path, *, latent: str, facts: Mapping[str, Any]
) -> None:
    """The networks as float16 safetensors, with what they are in the metadata.

    Args:
        networks: Trained.
        path: Of the file; what is there is overwritten.
        latent: Name of the latent that ζ stands for.
        facts: What else to say: the generator, the plan.
    """
    shape = networks.shape
    told = {
        "architecture": ARCHITECTURE,
        "shape": {"latent": shape.latent, "zeta": shape.zeta, "hidden": shape.hidden},
        "latent": latent,
        **facts,
    }
    tensors = {
        # The rates are too small for float16, whose least normal number is 6·10⁻⁵.
        name: (value if name == "rates" else as_half(value)).detach().cpu().contiguous().clone()
        for name, value in networks.state_dict().items()
    }
    save_in_order(tensors, path, {key: json.dumps(value) for key, value in told.items()})


def _trained(path: Path) -> ZetaSpace:
    facts = read_facts(path)
    if facts.get("architecture") != ARCHITECTURE:
        raise WeightsError(
            f"{path}: was not made by `invertkit train zeta` (its metadata do not name "
            f"{ARCHITECTURE})."
        )
    try:
        shape = ZetaShape(**facts["shape"])
        latent, of = str(facts["latent"]), str(facts["generator"])
    except (KeyError, TypeError, InputError) as error:
        raise WeightsError(
            f"{path}: its metadata are not those of auxiliary networks ({error!s:.100}). Train "
            "them again."
        ) from None
    return ZetaSpace(
        _filled(shape, read_weights(path), name=str(path)),
        latent=latent,
        description=f"{_sized(shape)} ({cited(path)}) for {of}",
    )


def _filled(shape: ZetaShape, state: Mapping[str, Tensor], *, name: str) -> AuxiliaryNetworks:
    with torch.device("meta"):
        networks = AuxiliaryNetworks(shape)
    networks.to_empty(device="cpu")
    load_into(networks, state, name=name)
    return networks


def _sized(shape: ZetaShape) -> str:
    return f"auxiliary space of {shape.zeta:,} numbers for {shape.latent}"

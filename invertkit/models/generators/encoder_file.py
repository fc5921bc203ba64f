"""Files of encoders by themselves, as `invertkit train encoder` leaves them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from invertkit.errors import WeightsError
from invertkit.models.classifiers.architectures import quiet_random
from invertkit.models.generators.conditional import ConditionalEncoder
from invertkit.models.generators.encoder import Encoder
from invertkit.models.loading.safetensors_file import as_half, read_facts, save_in_order
from invertkit.models.loading.weights_file import cited, load_into, read_weights

ARCHITECTURE: Final = "conditional-encoder"
"""What the metadata call the network that `invertkit train encoder` makes."""


def encoder(*, weights: Path) -> Encoder:
    """An encoder that `invertkit train encoder` made for a generator.

    Args:
        weights: `encoder.safetensors`.

    Raises:
        WeightsError: Missing, damaged, or not one of these.
    """
    path = Path(weights)
    if path.suffix != ".safetensors" or not path.is_file():
        raise WeightsError(f"{path}: no such file of `invertkit train encoder`.")
    facts = read_facts(path)
    if facts.get("architecture") != ARCHITECTURE:
        raise WeightsError(
            f"{path}: was not made by `invertkit train encoder` (its metadata do not name "
            f"{ARCHITECTURE})."
        )
    try:
        with quiet_random():
            net = ConditionalEncoder(
                latent=facts["latent"], embedding=facts["embedding"], widths=facts["channels"]
            )
        gives, takes = str(facts["gives"]), str(facts["takes"])
        size, of = int(facts["size"]), str(facts["generator"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise WeightsError(
            f"{path}: its metadata are not those of an encoder ({error!s:.100}). Train it again."
        ) from None
    load_into(net, read_weights(path), name=str(path))
    what = f"an encoder ({cited(path)}) for {of}"
    return Encoder(net, gives=gives, takes=takes, size=size, description=what)


def save_encoder(net: ConditionalEncoder, path: Path, *, facts: Mapping[str, Any]) -> None:
    """The network as float16 safetensors, with what it is in the metadata.

    Args:
        net: Trained.
        path: Of the file; what is there is overwritten.
        facts: `latent`, `embedding`, `channels`, `size`, `gives`, `takes`, `generator`, and more.
    """
    told = {"architecture": ARCHITECTURE, **facts}
    tensors = {
        name: as_half(value.detach().cpu()).contiguous().clone()
        for name, value in net.state_dict().items()
    }
    save_in_order(tensors, path, {key: json.dumps(value) for key, value in told.items()})

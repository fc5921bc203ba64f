"""What lies where in a checkpoint: the state dict inside it, and what stands around the network.

Understood are a bare state dict; one under a name such as `model` or `state_dict`, however deep, or
under any name if it is the only one (`nested`); keys with the prefix of a wrapper (`module.`,
`backbone.`) on every one of them but those of a loss; and the files of the robustness library,
which hold the network twice, and a normaliser twice:

    module.normalizer.new_mean, .new_std            (3, 1, 1)
    module.model.KEY                                the network
    module.attacker.normalize.new_mean, .new_std
    module.attacker.model.KEY                       the same network again

for a ResNet-50 4 + 2 × 320 = 644 entries. The library's normaliser belongs to the network, so its
mean and deviation are handed on. It also clamps images to [0, 1] first; `Classifier` does not,
so that a pixel outside that range still has a gradient that leads it back.

Source: MadryLab/robustness 1.2.1, `attacker.py` and `tools/helpers.py`; Salman et al. 2020.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from invertkit.core.log import log
from invertkit.core.suggestions import listed
from invertkit.errors import WeightsError
from invertkit.models.loading.nested import find_state, without_training, wrapper_of


@final
@dataclass(frozen=True, slots=True)
class Layout:
    """A state dict, and what was found around it.

    Args:
        name: The layout, in words.
        state: The network's tensors by bare names.
        mean: Of the file's normaliser, per channel; None if it has none.
        std: Of the file's normaliser.
        entries: How many entries the state dict in the file had.
        duplicates: How many of them repeated another.
        beside: What else the file holds; it is left unread.
        notes: What a reader should know, a sentence each.
    """

    name: str
    state: Mapping[str, Tensor]
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    entries: int = 0
    duplicates: int = 0
    beside: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def warn(self, path: Path) -> None:
        """Put the notes in the log, with the file's name."""
        for note in self.notes:
            log.warning("%s: %s", path, note)


def find_layout(data: Any, *, name: str) -> Layout:
    """The layout of what a checkpoint holds.

    Args:
        data: The outer object: a mapping with tensors by name in it, or in one of its values.
        name: Of the file, for messages.

    Raises:
        WeightsError: There are no ordinary tensors by printable names, or the normaliser is
            malformed.

    Example:
        >>> network = {"module.fc.bias": torch.zeros(2)}
        >>> layout = find_layout({"epoch": 3, "model": network}, name="w.pt")
        >>> list(layout.state), layout.beside
        (['fc.bias'], ('epoch',))
    """
    found = find_state(data, name=name)
    where, beside = found.where, found.beside
    entries = {str(key): value for key, value in found.state.items()}
    # Detached, a parameter loses attributes that the file may have set, which may hide methods.
    tensors = {k: Tensor.detach(value) for k, value in entries.items() if isinstance(value, Tensor)}
    if not all(key.isprintable() for key in (*entries, *beside)):
        raise WeightsError(f"{name}: has entries whose names cannot be printed.")
    odd = [key for key, value in tensors.items() if not _ordinary(value)]
    if odd:
        raise WeightsError(
            f"{name}: {len(odd)} entries are sparse, quantised or without data "
            f"({listed(odd, most=3)}); expected ordinary tensors."
        )
    others = [key for key in entries if key not in tensors]
    notes = [*found.notes]
    if others:
        some = listed(others, most=3)
        notes.append(f"{len(others)} entries that are no tensors are left out ({some}).")
    bare, prefix = _unwrapped(tensors)
    bare, aside = without_training(bare)
    if aside:
        some = listed(aside, most=3)
        notes.append(f"{len(aside)} entries belong to the training, and are left out ({some}).")
        bare, more = _unwrapped(bare)
        prefix += more
    if any(key.startswith(("attacker.", "normalizer.")) for key in bare):
        return _robustness(bare, where, len(entries), beside, notes, name=name)
    return Layout(
        name=where + (f", keys with `{prefix}`" if prefix else ""),
        state=bare,
        entries=len(entries),
        beside=beside,
        notes=tuple(notes),
    )


def _ordinary(value: Tensor) -> bool:
    return value.layout is torch.strided and value.device.type == "cpu" and not value.is_quantized


def _unwrapped(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """Without the prefixes that every key has."""
    bare, prefix = dict(tensors), ""
    while bare and (wrapper := wrapper_of(bare)):
        bare = {key.removeprefix(wrapper): value for key, value in bare.items()}
        prefix += wrapper
    return bare, prefix


def _robustness(
    tensors: Mapping[str, Tensor],
    where: str,
    entries: int,
    beside: tuple[str, ...],
    notes: list[str],
    *,
    name: str,
) -> Layout:
    groups: dict[str, dict[str, Tensor]] = {
        "normalizer.": {}, "attacker.normalize.": {}, "attacker.model.": {}, "model.": {}, "": {},
    }  # fmt: skip
    for key, value in tensors.items():
        group = next(prefix for prefix in groups if key.startswith(prefix))
        groups[group][key.removeprefix(group)] = value
    network, prefix = _unwrapped(groups["model."])
    again, _ = _unwrapped(groups["attacker.model."])
    if network and again and not _same(network, again):
        notes.append(
            "The two copies of the network in the file differ; the one under `module.model.` is "
            "used."
        )
    mean, std = _normaliser(groups["normalizer."] or groups["attacker.normalize."], name=name)
    other = groups["attacker.normalize."]
    if groups["normalizer."] and other and not _same(groups["normalizer."], other):
        notes.append("The two normalisers in the file differ; `module.normalizer.` is used.")
    # What is neither stays in the state, so that loading it reports the key as unknown.
    return Layout(
        name=f"the robustness library's, {where}" + (f", keys with `{prefix}`" if prefix else ""),
        state={**(network or again), **groups[""]},
        mean=mean,
        std=std,
        entries=entries,
        duplicates=len(again) if network else 0,
        beside=beside,
        notes=tuple(notes),
    )


def _same(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    """Whether two sets of tensors are the same, bit for bit."""
    return first.keys() == second.keys() and all(
        value.dtype == second[key].dtype
        and value.shape == second[key].shape
        and torch.equal(_bits(value), _bits(second[key]))
        for key, value in first.items()
    )


def _bits(value: Tensor) -> Tensor:
    return value.detach().contiguous().reshape(-1).view(torch.uint8)


def _normaliser(
    entries: Mapping[str, Tensor], *, name: str
) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    if not entries:
        return None, None
    mean, std = entries.get("new_mean"), entries.get("new_std")
    if mean is None or std is None or set(entries) != {"new_mean", "new_std"}:
        raise WeightsError(
            f"{name}: its normaliser has the entries "
            f"{listed(sorted(entries), most=3)}; expected new_mean and new_std."
        )
    sound = all(v.shape == (3, 1, 1) and bool(v.isfinite().all()) for v in (mean, std))
    if not sound or not bool((std > 0).all()):
        raise WeightsError(
            f"{name}: its normaliser is not three finite means and three positive deviations of "
            "shape (3, 1, 1)."
        )
    return tuple(mean.flatten().tolist()), tuple(std.flatten().tolist())

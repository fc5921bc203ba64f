"""The one network's tensors among all that a training has saved."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from torch import Tensor

from invertkit.core.suggestions import listed
from invertkit.errors import WeightsError

_NAMES: Final = (
    "model", "state_dict", "model_state_dict", "model_state", "net", "network", "net_state_dict",
    "params", "weights", "classifier", "module", "backbone", "encoder", "student", "teacher",
    "params_ema", "state_dict_ema", "model_ema", "ema", "ema_state_dict", "ema_model",
)  # fmt: skip
"""What trainings call the network, those first that are taken where there are several. What moved
slowly behind it is taken where nothing else is there."""

_WRAPPERS: Final = (
    "module.", "model.", "net.", "network.", "_orig_mod.", "backbone.", "encoder.", "classifier.",
)  # fmt: skip

# Slots of optimizers and schedules hold tensors by name too.
_TRAINING: Final = re.compile(
    r"(.*optim.*|.*sched.*|.*scaler.*|callbacks|loops|criterion|loss.*|.*_loss|.*metrics?|amp|rng.*"
    r"|.*rng_state.*|random.*)",
    re.IGNORECASE,
)
_BESIDE_MODEL: Final = re.compile(
    r"(criterion|loss|losses|loss_f\w*|\w+_loss|\w*criterion|\w*metrics?|\w+_acc(uracy)?|n_averaged"
    r"|ema|model_ema|ema_model|teacher)(\..*)?"
)
_DEPTH: Final = 5


class FoundState(NamedTuple):
    """A state dict, and where in a checkpoint it lay.

    Attributes:
        state: The entries; at least one is a tensor.
        where: In words.
        beside: What else there is at the outermost level.
        notes: What a reader should know, a sentence each.
    """

    state: Mapping[Any, Any]
    where: str
    beside: tuple[str, ...]
    notes: tuple[str, ...] = ()


def find_state(data: Any, *, name: str) -> FoundState:
    """The state dict of the network among what a checkpoint holds.

    Args:
        data: The outer object.
        name: Of the file, for messages.

    Raises:
        WeightsError: There is none, or there are several of which none has a usual name; the
            message lists what is inside.

    Example:
        >>> import torch
        >>> saved = {"epoch": 3, "my_net": {"fc.bias": torch.zeros(2)}, "lr": 0.1}
        >>> find_state(saved, name="w.pt").where
        'a state dict under `my_net`'
    """
    nested = dict(_states(data))
    for path in sorted(nested, key=_rank):
        usual = _rank(path)[0] < len(_NAMES)
        own = sum(isinstance(value, Tensor) for value in _values(data))
        # A few numbers beside a network are no network: an accuracy, a count of steps.
        if usual or (len(nested) == 1 and own < len(nested[path])):
            others = [".".join(other) for other in nested if other != path]
            note = (
                f"It also holds {listed([f'`{each}`' for each in others], most=3)}; "
                f"`{'.'.join(path)}` is used."
            )
            return FoundState(
                nested[path],
                f"a state dict under `{'.'.join(path)}`",
                tuple(str(key) for key in data if str(key) != path[0])
                if isinstance(data, Mapping)
                else (),
                (note,) if others else (),
            )
    if isinstance(data, Mapping) and any(isinstance(value, Tensor) for value in data.values()):
        return FoundState(data, "a state dict", ())
    if nested:
        inside = [f"`{'.'.join(path)}`, {len(state)} entries" for path, state in nested.items()]
        raise WeightsError(
            f"{name}: holds several state dicts ({listed(inside, most=6)}), and none has a usual "
            "name. Save the one of the network by itself: "
            "`torch.save(checkpoint[NAME], 'network.pt')`."
        )
    raise WeightsError(
        f"{name}: holds no tensors by name ({_inside(data)}); expected a state dict."
    )


def _values(data: Any) -> list[Any]:
    return list(data.values()) if isinstance(data, Mapping) else []


def _rank(path: tuple[str, ...]) -> tuple[int, int]:
    """How usual a name is, and how deep it lies; the outermost part that is usual counts."""
    places = [_NAMES.index(part) for part in path if part in _NAMES]
    # `model_ema.state_dict` is what moved behind, `model.state_dict` is not.
    return (max(places) if places else len(_NAMES)), len(path)


def _states(
    data: Any, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Mapping[Any, Any]]]:
    """All state dicts inside, by their paths; the outermost itself is none."""
    if len(path) >= _DEPTH:
        return
    if isinstance(data, Mapping):
        parts = [(str(key), value) for key, value in data.items() if isinstance(key, str)]
    elif isinstance(data, list | tuple):
        parts = [(str(place), value) for place, value in enumerate(data)]
    else:
        return
    for key, value in parts:
        if _TRAINING.fullmatch(key):
            continue
        named = isinstance(value, Mapping) and all(isinstance(each, str) for each in value)
        if named and any(isinstance(each, Tensor) for each in value.values()):
            yield (*path, key), value
        else:
            yield from _states(value, (*path, key))


def _inside(data: Any) -> str:
    """What a checkpoint holds instead of tensors by name."""
    if isinstance(data, Mapping) and data:
        kinds = [f"{key!s:.40}: {type(value).__name__}" for key, value in data.items()]
        return f"it holds {listed(kinds, most=6)}"
    if isinstance(data, Mapping | list | tuple) and not data:
        return "it is empty"
    return f"it holds a {type(data).__name__}"


def without_training(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Tensors of a network alone, and the names of those that a training keeps beside it.

    A module that trains holds the network under one name, and a loss, metrics or an average under
    others. They are left out where all the rest has the prefix of a wrapper.

    Args:
        tensors: By name.

    Example:
        >>> import torch
        >>> one = torch.zeros(1)
        >>> kept, aside = without_training({"model.fc.bias": one, "criterion.weight": one})
        >>> list(kept), aside
        (['model.fc.bias'], ['criterion.weight'])
    """
    aside = [key for key in tensors if _BESIDE_MODEL.fullmatch(key)]
    kept = {key: value for key, value in tensors.items() if not _BESIDE_MODEL.fullmatch(key)}
    if not aside or not kept or not wrapper_of(kept):
        return dict(tensors), []
    return kept, aside


def wrapper_of(tensors: Mapping[str, Tensor]) -> str:
    """The prefix of a wrapper that all names have; empty if there is none.

    Example:
        >>> wrapper_of({"module.conv.weight": None, "module.fc.bias": None})
        'module.'
    """
    first = next(iter(tensors), "")
    prefix = next((each for each in _WRAPPERS if first.startswith(each)), "")
    if not prefix or not all(key.startswith(prefix) for key in tensors):
        return ""
    # A layer may be called so: what is left must be names of layers, as `conv.weight` is.
    named = any("." in key.removeprefix(prefix) for key in tensors)
    return prefix if named or prefix in _WRAPPERS[:5] else ""

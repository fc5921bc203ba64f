"""Which layers of a generator a change reaches, and how strongly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal, TypeAlias

from invertkit.core.suggestions import did_you_mean
from invertkit.errors import InputError

LayerWord = Literal["all", "first", "early", "late", "none"]

LayerChoice: TypeAlias = LayerWord | Sequence[int] | Mapping[int, float]
"""`first`: the layers of the smallest side; `early` and `late`: those of the smaller and of the
larger sides; or their numbers, from 0; or a strength by number, 0 for the others."""

_WORDS: Final = ("all", "first", "early", "late", "none")


def layer_strengths(choice: LayerChoice, sides: Sequence[int]) -> tuple[float, ...]:
    """A strength for every layer.

    Args:
        choice: Words, numbers, or strengths by number.
        sides: Of the features of every layer, which tell what is early and what is late: `early`
            are the smaller ones of the different sides, the middle one among them.

    Raises:
        InputError: There is no such layer or word, or a strength is not in [0, 1].

    Example:
        >>> sides = (4, 8, 8, 16, 16, 32)
        >>> layer_strengths("first", sides), layer_strengths("late", sides)
        ((1.0, 0.0, 0.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0, 1.0, 1.0))
        >>> layer_strengths({2: 0.5}, sides)
        (0.0, 0.0, 0.5, 0.0, 0.0, 0.0)

    Source: the choice of layers is that of Suzuki et al. 2018, Fig. 12; the words are ours.
    """
    if isinstance(choice, str):
        return _by_word(choice, sides)
    if not isinstance(choice, Mapping) and not isinstance(choice, Sequence):
        raise InputError(f"layers: expected {_expected()}; got {choice!r}.")
    given = dict(choice) if isinstance(choice, Mapping) else dict.fromkeys(choice, 1.0)
    for number, strength in given.items():
        if isinstance(number, bool) or not isinstance(number, int):
            raise InputError(f"layers: expected {_expected()}; got {number!r}.")
        if not 0 <= number < len(sides):
            raise InputError(
                f"layers: there are {len(sides)}, 0 to {len(sides) - 1}, with sides "
                f"{', '.join(map(str, sides))}; got {number}."
            )
        if isinstance(strength, bool | str) or not 0 <= strength <= 1:
            raise InputError(f"layers: a strength is in [0, 1]; layer {number} has {strength!r}.")
    return tuple(float(given.get(number, 0)) for number in range(len(sides)))


def _by_word(word: str, sides: Sequence[int]) -> tuple[float, ...]:
    if word not in _WORDS:
        raise InputError(
            f"layers: expected {_expected()}; got {word!r}.{did_you_mean(word, _WORDS)}"
        )
    different = sorted(set(sides))
    last_early = different[(len(different) - 1) // 2] if different else 0
    chosen = {
        "all": set(sides),
        "none": set(),
        "first": set(different[:1]),
        "early": {side for side in different if side <= last_early},
        "late": {side for side in different if side > last_early},
    }[word]
    return tuple(float(side in chosen) for side in sides)


def _expected() -> str:
    return f"{', '.join(_WORDS)}, numbers such as [2, 5], or strengths such as {{2: 0.5}}"

"""Classes by the names that people write: any case, with spaces, underscores or hyphens.

Also by WordNet numbers, as the folders of ImageNet are called: `n01443537`, or with the name
behind it, `n01443537_goldfish`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from typing import Final, NamedTuple

_WORDNET: Final = re.compile(r"(n\d{8})(?:_.*)?")
# The field's list has two that differ by a capital alone: a dog and a garment.
_RENAMED: Final[Mapping[int, str]] = {264: "Cardigan Welsh corgi"}


@cache
def imagenet_classes() -> tuple[str, ...]:
    """The names of ImageNet's thousand classes in the order of the logits, each once.

    torchvision's list, in which the two cranes and the two maillots have names of their own;
    `Cardigan`, which differs from the garment by a capital alone, is `Cardigan Welsh corgi` here.

    Example:
        >>> imagenet_classes()[:3]
        ('tench', 'goldfish', 'great white shark')
    """
    from torchvision.models import ResNet18_Weights

    names: list[str] = ResNet18_Weights.DEFAULT.meta["categories"]
    return tuple(_RENAMED.get(i, name) for i, name in enumerate(names))


def class_place(name: str, known: Sequence[str]) -> int | None:
    """Which of the known classes somebody means.

    Args:
        name: A name in any case, with spaces, underscores or hyphens between its words. Of a
            thousand classes, which are taken for ImageNet's, also a WordNet number, alone or with
            an underscore and anything behind it.
        known: The names of the classes in order.

    Returns:
        Its index; None if no class is called that, or several are.

    Example:
        >>> class_place("Great_White_Shark", imagenet_classes())
        2
        >>> class_place("n02012849_crane", imagenet_classes()), class_place("emu", ("ostrich",))
        (134, None)
    """
    names = tuple(known)
    if names.count(name) == 1:
        return names.index(name)
    number = _WORDNET.fullmatch(name)
    if number is not None and len(names) == 1000:
        return _wordnet_places().get(number[1])
    return _plain_places(names).get(plain_name(name))


class ChosenClass(NamedTuple):
    """What a number or a word was taken for.

    Attributes:
        place: Index of the class; None if there is none of that name. A number may lie outside.
        note: A sentence to tell, if a class bears the number of another as its name; else empty.
    """

    place: int | None
    note: str


def chosen_class(wanted: int | str, known: Sequence[str]) -> ChosenClass:
    """The class that somebody wants, by number or by name.

    A word is a name before it is a number, so `"10"` is the class of that name where there is one.
    A number is an index; outside of the names it is one of them, if a class is called so.

    Args:
        wanted: An index, also as a word, or a name as `class_place` understands it.
        known: The names of the classes in order; none if they have none.

    Example:
        >>> chosen_class("10", ("0", "1", "10")).place, chosen_class("1", ("tabby", "tiger")).place
        (2, 1)
        >>> chosen_class(1, ("1", "0")).note
        "Class 1 is taken by its number, as '0'; the class called '1' is number 0."
    """
    names, word = tuple(known), str(wanted)
    number = int(word) if word.isdecimal() else None
    called = names.index(word) if names.count(word) == 1 else None
    place: int | None
    if isinstance(wanted, int):
        place = wanted if called is None or wanted < len(names) else called
    else:
        place = called if called is not None else number
        place = class_place(word, names) if place is None else place
    if called is None or number is None or called == number or number >= len(names):
        return ChosenClass(place, "")
    if place == called:
        other = f"as number {called}; number {number} is {names[number]!r}"
        return ChosenClass(place, f"Class {word!r} is taken by its name, {other}.")
    other = f"as {names[number]!r}; the class called {word!r} is number {called}"
    return ChosenClass(place, f"Class {word} is taken by its number, {other}.")


def class_hint(name: str, known: Sequence[str], *, cutoff: float = 0.6) -> str:
    """A question to append to a complaint of an unknown class; empty if none is near.

    Args:
        name: What was written.
        known: The names of the classes.
        cutoff: How alike they must be, from 0 to 1; those that hold it as a word are near too.

    Example:
        >>> class_hint("Gold_fihs", imagenet_classes())
        " Did you mean 'goldfish'?"
        >>> class_hint("shark", imagenet_classes())
        " Did you mean 'tiger shark' or 'great white shark'?"
    """
    plain = {plain_name(each): each for each in known}
    wanted = plain_name(name)
    holding = [key for key in plain if wanted in key.split()]
    near = get_close_matches(wanted, holding or plain, n=3, cutoff=0.3 if holding else cutoff)
    shown = near[:1] if not holding else near
    words = " or ".join(repr(plain[key]) for key in shown)
    return f" Did you mean {words}?" if words else ""


@cache
def _plain_places(names: tuple[str, ...]) -> Mapping[str, int | None]:
    places: dict[str, int | None] = {}
    for place, name in enumerate(names):
        key = plain_name(name)
        places[key] = None if key in places else place  # two classes of one name: neither
    return places


@cache
def _wordnet_places() -> Mapping[str, int]:
    from timm.data import ImageNetInfo

    return {number: place for place, number in enumerate(ImageNetInfo().label_names())}


def plain_name(name: str) -> str:
    """A name without what people write differently: case, underscores, hyphens, apostrophes.

    Example:
        >>> plain_name("Jack-o'-lantern")
        'jack o lantern'
    """
    return re.sub(r"[\W_]+", " ", name.casefold()).strip()

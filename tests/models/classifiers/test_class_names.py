from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invertkit.models.classifiers.class_names import (
    chosen_class,
    class_hint,
    class_place,
    imagenet_classes,
    plain_name,
)

places = st.integers(0, 999)
styles = st.sampled_from([str.lower, str.upper, str.title])
joins = st.sampled_from([" ", "_", "-"])


def test_imagenets_names_are_a_thousand_whatever_their_spelling() -> None:
    names = imagenet_classes()
    assert len({plain_name(name) for name in names}) == len(names) == 1000
    assert names[1] == "goldfish"
    assert names[281] == "tabby"
    assert (names[134], names[517]) == ("crane bird", "crane")
    assert (names[638], names[639]) == ("maillot", "maillot tank suit")
    assert (names[264], names[474]) == ("Cardigan Welsh corgi", "cardigan")


@given(place=places, style=styles, join=joins)
def test_a_class_is_found_in_every_spelling(place: int, style: object, join: str) -> None:
    names = imagenet_classes()
    written = style(names[place]).replace(" ", join)  # type: ignore[operator]
    assert class_place(written, names) == place


@given(place=places)
def test_a_class_is_found_by_its_wordnet_number(place: int) -> None:
    from timm.data import ImageNetInfo

    number = ImageNetInfo().label_names()[place]
    for name in (number, f"{number}_whatever_it_is"):
        assert class_place(name, imagenet_classes()) == place
        assert class_place(name, imagenet_classes()[:999]) is None


@given(st.lists(st.text(string.ascii_letters + " _-", min_size=1), unique=True, max_size=8))
def test_what_is_written_exactly_is_found_and_what_two_share_is_not(names: list[str]) -> None:
    for place, name in enumerate(names):
        assert class_place(name, names) == place
    for name in names:
        alike = [place for place, each in enumerate(names) if plain_name(each) == plain_name(name)]
        other = name.swapcase() + "_"
        if other not in names:
            assert class_place(other, names) == (alike[0] if len(alike) == 1 else None)


@pytest.mark.parametrize(
    ("written", "hint"),
    [
        ("golfdish", " Did you mean 'goldfish'?"),
        ("Golden_Retreiver", " Did you mean 'golden retriever'?"),
        ("tank suit", " Did you mean 'maillot tank suit'?"),
        ("fox", " Did you mean 'red fox' or 'grey fox' or 'kit fox'?"),
        ("xxxxxxxxxx", ""),
    ],
)
def test_a_mistake_gets_a_suggestion(written: str, hint: str) -> None:
    assert class_place(written, imagenet_classes()) is None
    found = class_hint(written, imagenet_classes())
    assert sorted(found.split()) == sorted(hint.split())


@given(
    names=st.lists(st.sampled_from([*map(str, range(8)), "ant", "bee"]), unique=True, max_size=8),
    wanted=st.integers(0, 9),
)
def test_a_name_that_is_a_number_goes_before_the_number(names: list[str], wanted: int) -> None:
    by_word, by_number = chosen_class(str(wanted), names), chosen_class(wanted, names)
    called = names.index(str(wanted)) if str(wanted) in names else None
    assert by_word.place == (wanted if called is None else called)
    if wanted < len(names) or called is None:
        assert by_number.place == wanted
    else:
        assert by_number.place == called
    told = called is not None and called != wanted and wanted < len(names)
    assert [bool(choice.note) for choice in (by_word, by_number)] == [told, told]


def test_words_that_only_look_like_numbers_are_no_numbers() -> None:
    assert chosen_class("²", ()).place is None
    assert chosen_class("-1", ("ant",)).place is None

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from invertkit.core.randomness import Randomness, generator
from tests.helpers import global_generators_unmoved

seeds = st.lists(st.integers(0, 2**31), min_size=1, max_size=4, unique=True)


@given(seeds=seeds, step=st.integers(0, 10**6))
def test_a_seed_draws_the_same_alone_and_in_company(seeds: list[int], step: int) -> None:
    together = Randomness(tuple(seeds))
    for draw in (Randomness.normal, Randomness.uniform):
        rows = draw(together, "x", (2, 3), step=step)
        assert rows.shape == (len(seeds), 2, 3)
        for seed, row in zip(seeds, rows, strict=True):
            assert torch.equal(draw(Randomness((seed,)), "x", (2, 3), step=step)[0], row)


def test_seed_purpose_and_step_each_make_another_draw() -> None:
    draws = [
        Randomness((seed,)).normal(purpose, (5,), step=step)
        for seed in (0, 1, 11)
        for purpose in ("a", "b", "1/a")
        for step in (0, 1, 11)
    ]
    for i, a in enumerate(draws):
        assert not any(torch.equal(a, b) for b in draws[:i])


def test_the_same_question_has_the_same_answer_whatever_was_asked_before() -> None:
    randomness = Randomness((4,))
    first = randomness.normal("x", (3,), step=2)
    randomness.uniform("y", (100,))
    assert torch.equal(randomness.normal("x", (3,), step=2), first)
    wanted = torch.randn(3, generator=generator(4, "x", 2))
    assert torch.equal(first[0], wanted)


def test_the_global_generators_are_neither_read_nor_moved() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        first = Randomness((0,)).normal("x", (3,))
        torch.manual_seed(2)
        assert torch.equal(Randomness((0,)).normal("x", (3,)), first)
    with global_generators_unmoved():
        Randomness((0, 1)).uniform("x", (3,))


def test_draws_have_the_distribution_they_are_named_for() -> None:
    randomness = Randomness((0, 1))
    normal, uniform = randomness.normal("x", (20_000,)), randomness.uniform("x", (20_000,))
    for rows, mean, deviation in ((normal, 0.0, 1.0), (uniform, 0.5, 12**-0.5)):
        assert rows.mean(1).tolist() == pytest.approx([mean] * 2, abs=0.03)
        assert rows.std(1).tolist() == pytest.approx([deviation] * 2, rel=0.03)
    assert uniform.min() >= 0
    assert uniform.max() < 1


def test_numbers_stay_what_they_were_in_the_first_release() -> None:
    """A changed rule would make every published seed another picture."""
    first = Randomness((3,)).normal("start", (2,))[0].tolist()
    assert first == pytest.approx([1.9072572, 2.0248897], abs=1e-6)


@given(seeds=seeds, count=st.integers(1, 12), tags=st.lists(st.text("ab01/", max_size=3)))
def test_every_candidate_of_every_seed_and_tag_draws_for_itself(
    seeds: list[int], count: int, tags: list[str]
) -> None:
    tags = [tag.strip("/") for tag in tags]
    found = []
    for tag in {"", "generation1", *(tag for tag in tags if "//" not in tag)}:
        draws = Randomness(tuple(seeds)).candidates(count, tag)
        assert draws.seeds == tuple(seed for seed in seeds for _ in range(count))
        rows = draws.normal("x", (4,))
        for i, seed in enumerate(seeds):
            alone = Randomness((seed,)).candidates(count, tag).normal("x", (4,))
            assert torch.equal(rows[i * count : (i + 1) * count], alone)
        few = Randomness(tuple(seeds)).candidates(count + 2, tag).normal("x", (4,))
        if count > 1 or tag:
            assert torch.equal(
                few.reshape(len(seeds), -1, 4)[:, :count], rows.reshape(-1, count, 4)
            )
        assert torch.equal(draws.rows(count - 1, count).normal("x", (4,)), rows[count - 1 : count])
        found.append(rows)
    every = torch.cat(found)
    assert len(every.unique(dim=0)) == len(every)


def test_one_candidate_without_a_tag_is_the_image() -> None:
    randomness = Randomness((3, 5))
    assert randomness.candidates(1) is randomness
    tagged = randomness.candidates(1, "centre").normal("x", (4,))
    assert not (tagged == randomness.normal("x", (4,))).any()


def test_candidates_of_candidates_all_differ() -> None:
    rows = Randomness((3, 5)).candidates(3).candidates(2, "again").normal("x", (4,))
    assert len(rows.unique(dim=0)) == 12


def test_a_draw_may_be_one_number_an_image() -> None:
    randomness = Randomness((3, 5))
    for draw in (randomness.normal, randomness.uniform):
        assert draw("x", ()).shape == (2,)
        assert draw("x", (0,)).shape == (2, 0)

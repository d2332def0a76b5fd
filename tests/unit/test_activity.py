"""How many different accounts were active, told from their pauses alone."""

from bisect import bisect_right
from collections import Counter
from datetime import UTC, datetime
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from app.periods import QUARTER
from persistence.monitoring.activity import FIRST, LIMITS, Pauses, active

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
LAST = 4_000

Lives = list[list[int]]
"""Of each account the quarters in which it was active."""

lives = st.lists(st.lists(st.integers(0, LAST), min_size=1, max_size=12, unique=True).map(sorted), max_size=6)
bounds = st.lists(st.integers(0, LAST + 1), min_size=2, max_size=12, unique=True).map(sorted)


def at(quarter: int) -> datetime:
    return EPOCH + quarter * QUARTER


def pauses_of(lived: Lives, edges: list[int]) -> list[Pauses]:
    began: Counter[tuple[int, int]] = Counter()
    ended: Counter[tuple[int, int]] = Counter()
    for quarters in lived:
        ended[bisect_right(edges, quarters[0]), FIRST] += 1
        for start, end in pairwise(quarters):
            class_ = bisect_right(LIMITS, end - start)
            began[bisect_right(edges, start), class_] += 1
            ended[bisect_right(edges, end), class_] += 1
    return [
        Pauses(step, class_, began[step, class_], ended[step, class_])
        for step, class_ in began | ended
        if step < len(edges)
    ]


def looked_at(lived: Lives, start: int, end: int, at_least: int, below: int) -> int:
    """Of the odd pauses those that count, one by one."""
    return sum(
        start <= to < end and at_least <= to - since < below and since < start
        for quarters in lived
        for since, to in pairwise(quarters)
    )


@given(lives, bounds)
def test_accounts_are_counted_as_looking_at_each_of_them_counts(lived, edges):
    found = active([at(each) for each in edges], pauses_of(lived, edges))
    for (start, end), (count, odd) in zip(pairwise(edges), found, strict=True):
        wanted = sum(any(start <= quarter < end for quarter in quarters) for quarters in lived)
        assert wanted == count + (looked_at(lived, start, end, *odd) if odd else 0)


@given(lives, st.sampled_from(LIMITS), st.integers(0, LAST))
def test_in_steps_of_a_usual_length_no_account_need_be_looked_at(lived, length, start):
    edges = [start, start + length]
    ((count, odd),) = active([at(each) for each in edges], pauses_of(lived, edges))
    assert odd is None
    assert sum(any(start <= each < start + length for each in quarters) for quarters in lived) == count


def test_the_lengths_that_are_kept_rise():
    assert sorted(set(LIMITS)) == list(LIMITS)

"""The arithmetic of the capacity page, and that its prose has a place for every figure."""

import re

import pytest

from tests.bench.capacity import BUSY, PAGE, document, need
from tests.bench.figures import Samples
from tests.bench.tiers import DEDUCTS, LOADS, TIERS, Cost

COST = {"api": 100.0, "redis": 50.0, "worker": 10.0, "postgres": 20.0}


@pytest.mark.parametrize(
    ("rate", "needed"),
    [
        (1, [1, 1, 1, 1]),
        (BUSY * 20_000, [2, 1, 1, 1]),
        (BUSY * 20_001, [3, 2, 1, 1]),
        (100_000, [15, 8, 2, 3]),
    ],
)
def test_what_a_rate_needs_is_its_work_on_cores_that_are_not_quite_busy(rate, needed):
    assert needed == [need(COST, 500, rate).tiers[tier] for tier in TIERS]


def test_rows_and_bytes_are_those_of_a_day():
    found = need(COST, 500, 1000)
    assert (86_400_000, 43.2) == (found.rows_a_day, found.gb_a_day)


def test_every_place_of_the_page_gets_its_figures():
    samples = {tier: Samples([value]) for tier, value in COST.items()}
    costs = [Cost(load, samples, 500.0, Samples([1000.0]), Samples([9.0])) for load in LOADS]
    page = document(costs, {"processor": "a small one"}, 3, 5.0)
    assert not re.search(r"\{\{|\}\}", page)
    assert re.search(r"\{\{\w+\}\}", PAGE.read_text())
    for each in (
        "3 rounds of 5 s",
        "processor: a small one",
        "500 bytes",
        DEDUCTS.name,
        "| 1,000,000 | 143 |",
    ):
        assert each in page, each

"""Nothing is given back that was not spent, and nothing twice (I3)."""

import pytest

from persistence.folding import Contradiction, Original, give_back
from tests.unit.folding.by_hand import entry

SHARD = 3


@pytest.fixture
def originals() -> dict[int, Original]:
    return {
        4: Original(1, "ana", "deducted", 10),
        5: Original(1, "ana", "confirmed", 7, refunded=2),
        6: Original(1, "ana", "granted", 10),
        7: Original(1, "bo", "deducted", 10),
        8: Original(9, "bo", "adjusted", 0, is_lost=True),
    }


def refund(of: str | None, amount: int = 5):
    return entry("refunded", 9, (amount, 0), ("default", 0, amount, 0), refund_of=of)


def test_what_was_spent_is_given_back_bit_by_bit_and_not_beyond(originals):
    for sequence in (10, 11):
        give_back(refund("3-1-4"), sequence, SHARD, originals)
    assert originals[4].refunded == 10
    with pytest.raises(Contradiction, match="leads to 11 given back of 3-1-4, which spent 10"):
        give_back(refund("3-1-4", 1), 12, SHARD, originals)
    give_back(refund("3-1-5"), 13, SHARD, originals)
    assert originals[5].refunded == 7


@pytest.mark.parametrize(
    ("of", "why"),
    [
        (None, "gives back None, which is nothing before it"),
        ("4", "gives back 4, which is nothing before it"),
        ("3-1-3", "gives back 3-1-3, which is nothing before it"),
        ("2-1-4", "gives back 2-1-4, which is nothing before it"),
        ("3-2-4", "gives back 3-2-4, where ana has spent nothing"),
        ("3-1-6", "gives back 3-1-6, where ana has spent nothing"),
        ("3-1-7", "gives back 3-1-7, where ana has spent nothing"),
        ("3-1-8", None),
    ],
)
def test_a_refund_names_what_the_account_has_spent_before(originals, of, why):
    if why is None:
        give_back(refund(of), 10, SHARD, originals)
        return
    with pytest.raises(Contradiction, match=why):
        give_back(refund(of), 10, SHARD, originals)


def test_a_refund_does_not_come_before_what_it_gives_back(originals):
    for sequence in (3, 4):
        with pytest.raises(Contradiction, match="which is nothing before it"):
            give_back(refund("3-1-4"), sequence, SHARD, originals)


def test_a_refund_of_nothing_is_none(originals):
    for amount in (0, -2):
        with pytest.raises(Contradiction, match="given back of 3-1-5"):
            give_back(refund("3-1-5", amount), 10, SHARD, originals)


def test_of_what_was_lost_nobody_knows_how_much_it_spent(originals):
    give_back(refund("3-1-8", 1000), 10, SHARD, originals)
    assert originals[8].refunded == 1000


def test_an_entry_in_a_lost_place_says_how_much_had_been_given_back(originals):
    lost = entry("adjusted", 9, (0, 0), adopted=(9, 9), refund_of="3-1-5", refunded=6)
    give_back(lost, 10, SHARD, originals)
    assert originals[5].refunded == 6
    with pytest.raises(Contradiction, match="leads to 6 given back of 3-1-5"):
        give_back(lost, 11, SHARD, originals)

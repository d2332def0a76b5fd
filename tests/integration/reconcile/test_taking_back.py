"""An entry taken back: what it tells of what was before it, and what it does not."""

import pytest

from app.ledger.entries import FORMAT, Entry, Leg
from app.ledger.replies import Account, HeldLeg, Lot, Reservation
from persistence.reconcile.lost import NotAdoptable, Then
from persistence.reconcile.taking_back import take_back

ANA = "ana"


def entry(kind, version, legs=(), **members):
    given = {"amount": 0, "available": 0, "held": 0} | members
    return Entry(
        format=FORMAT, kind=kind, at_ms=1, account=ANA, version=version, legs=[Leg(*leg) for leg in legs],
        incarnation=1, nonce="n", **given,
    )  # fmt: skip


def then_of(lots, version, reservations=()):
    account = Account(
        format=FORMAT, version=version, available=sum(lot.available for lot in lots),
        held=sum(lot.held for lot in lots), lots=lots,
    )  # fmt: skip
    return Then(9, "n", 1, 0, {ANA: account}, {each.id: each for each in reservations})


def lots_before(lots, *entries):
    """With the entries taken back, of which the first is version 2."""
    then = then_of(lots, 1 + len(entries))
    for place, each in reversed([*enumerate(entries)]):
        take_back(then, each, 10 + place)
    return then.accounts[ANA].lots


def test_a_bucket_that_may_be_new_leaves_no_row_behind():
    granted = entry("granted", 2, [("plan", 0, 6, 0)], bucket="plan")
    assert [] == lots_before([Lot("plan", 100, 0, 6, 0, 2)], granted)


def test_a_bucket_that_has_a_priority_that_nobody_gave_it_was_there_before():
    granted = entry("granted", 2, [("plan", 7, 6, 0)], bucket="plan")
    assert [Lot("plan", 10, 0, 0, 0, 2)] == lots_before([Lot("plan", 10, 7, 6, 0, 2)], granted)


def test_a_lot_that_was_used_up_is_what_its_empty_row_was():
    spent = entry("deducted", 2, [("plan", 7, -6, 0)])
    assert [Lot("plan", 10, 7, 6, 0, 1)] == lots_before([Lot("plan", 10, 0, 0, 0, 1)], spent)


def test_a_lot_that_went_has_the_priority_of_its_bucket():
    spent = entry("deducted", 2, [("plan", 7, -6, 0)])
    left = Lot("plan", 10, 8, 1, 0, 1)
    assert [Lot("plan", 10, 7, 6, 0, 1), left] == lots_before([left], spent)


def test_of_a_bucket_that_went_the_row_is_the_first_to_go_again():
    spent = entry("deducted", 2, [("plan", 7, -6, 0)])
    assert [Lot("plan", 100, 7, 6, 0, 0)] == lots_before([], spent)


def test_a_debt_is_taken_back_whole_and_in_part():
    borrowed = entry("deducted", 2, [("overdraft", 0, -5, 0)])
    repaid = entry("granted", 3, [("overdraft", 0, 5, 0)])
    debt = Lot("overdraft", 1_000_001, 0, -5, 0, 2)
    assert [] == lots_before([debt], borrowed)
    assert [-5] == [lot.available for lot in lots_before([], entry("granted", 2, [("overdraft", 0, 5, 0)]))]
    assert [] == lots_before([], borrowed, repaid)


def test_what_does_not_lead_to_what_redis_has_is_refused():
    with pytest.raises(NotAdoptable, match="A lot of ana"):
        lots_before([Lot("plan", 100, 0, 6, 0, 1)], entry("granted", 2, [("plan", 0, 7, 0)]))


@pytest.mark.parametrize(
    ("captured", "legs"),
    [
        # What goes back whole stands in reverse, also where it has repaid a debt on the way.
        (0, [("c", 0, 0, -3), ("b", 0, 1, -4), ("a", 0, 5, -5), ("overdraft", 0, 6, 0)]),
        (5, [("a", 0, 0, -5), ("c", 0, 0, -3), ("b", 0, 2, -4), ("overdraft", 0, 5, 0)]),
        (7, [("a", 0, 0, -5), ("b", 0, 0, -4), ("c", 0, 0, -3), ("overdraft", 0, 5, 0)]),
        (12, [("a", 0, -1, -5), ("b", 0, 0, -4), ("c", 0, 0, -3)]),
    ],
)
def test_what_a_job_held_is_known_in_the_order_in_which_it_would_be_spent(captured, legs):
    job = Reservation(
        format=FORMAT, id="r", account=ANA, status="confirmed", reserved=12, captured=captured,
        released=12 - captured, expires_at_ms=9, created_at_ms=1, reserved_sequence=3, ended_sequence=10,
    )  # fmt: skip
    ended = entry("confirmed", 2, legs, reservation="r", captured=captured, released=12 - captured)
    then = then_of([Lot(bucket, 100, 0, 10, 0, 1) for bucket in ("a", "b", "c")], 2, [job])
    take_back(then, ended, 10)
    assert [HeldLeg("a", 0, 5), HeldLeg("b", 0, 4), HeldLeg("c", 0, 3)] == then.reservations["r"].legs

"""Edges that chance would find in a thousand nights, on the engine and on the reference."""

from collections.abc import Iterator
from typing import Any

import pytest

from app.ledger.connection import connect
from app.ledger.credits import CREDITS_MAX
from app.ledger.operations import (
    Adjust,
    Bind,
    Cancel,
    Configure,
    Confirm,
    Deduct,
    Extend,
    Grant,
    Operation,
    Refund,
    Reserve,
)
from tests.property.side_by_side import SideBySide
from tests.reference import Refused
from tests.reference.refunds import original_of, originals_of

HOUR_MS = 3_600_000


@pytest.fixture
def both(redis_url: str) -> Iterator[SideBySide]:
    both = SideBySide(lambda: connect(redis_url))
    yield both
    both.reference.check()
    both.close()


def ask(both: SideBySide, *operations: Operation) -> None:
    for operation in operations:
        both.ask([operation])
        both.compare()


def word(both: SideBySide, operation: Operation) -> str:
    """The answer of both, in a word."""
    (outcome,) = both.ask([operation])
    both.compare()
    return outcome.word if isinstance(outcome, Refused) else "ok"


def fill(both: SideBySide, lots: int) -> None:
    for number in range(lots):
        ask(both, Grant(account="ada", amount=1, bucket=f"b{number}"))


def refund_of_last(both: SideBySide, **more: Any) -> Refund:
    line = both.reference.journal[both.reference.shard("ada")][-1]
    return Refund(account="ada", originals=[original_of(both.reference, line)], **more)


@pytest.mark.parametrize("full", [62, 63, 64])
def test_what_comes_back_into_several_lots_finds_room_or_is_refused(both: SideBySide, full: int) -> None:
    """Also where one of them is an empty row that is filled again."""
    ask(
        both,
        Grant(account="ada", amount=1, bucket="x", priority=1),
        Grant(account="ada", amount=1, bucket="y"),
    )
    ask(both, Deduct(account="ada", amount=2))
    refund = refund_of_last(both)
    fill(both, full)
    ask(both, refund)


@pytest.mark.parametrize("rollover", [3, 4, 5])
def test_a_renewal_finds_room_in_the_lots_that_it_empties(both: SideBySide, rollover: int) -> None:
    soon, later = both.now_ms + HOUR_MS, both.now_ms + 2 * HOUR_MS
    ask(both, Grant(account="ada", amount=4, bucket="plan", expires_at_ms=soon))
    fill(both, 63)
    renewal = Grant(account="ada", amount=9, bucket="plan", expires_at_ms=later, rollover=rollover)
    assert word(both, renewal) == ("limit_reached" if rollover < 4 else "ok")


def test_the_same_lot_wanted_back_by_two_captures_is_one(both: SideBySide) -> None:
    id_ = both.world.new_reservation("ada")
    ask(
        both,
        Grant(account="ada", amount=4, bucket="x", priority=1, expires_at_ms=both.now_ms + HOUR_MS),
        Reserve(account="ada", reservation=id_, amount=4),
        Confirm(reservation=id_, amount=2, final=False, key="a", fingerprint="f"),
        Confirm(reservation=id_),
    )
    fill(both, 63)
    ask(both, Refund(account="ada", originals=originals_of(both.reference, both.reference.holds[id_])))


def test_what_repays_a_debt_needs_no_lot(both: SideBySide) -> None:
    ask(
        both,
        Grant(account="ada", amount=3, bucket="x", expires_at_ms=both.now_ms + HOUR_MS),
        Deduct(account="ada", amount=3),
    )
    refund = refund_of_last(both)
    fill(both, 64)
    id_ = both.world.new_reservation("ada")
    ask(
        both,
        Reserve(account="ada", reservation=id_, amount=64),
        Configure(account="ada", overdraft_limit=5),
        Deduct(account="ada", amount=5),
        refund,
    )


@pytest.mark.parametrize("debt", [1, 2, 3, CREDITS_MAX - 1, CREDITS_MAX])
@pytest.mark.parametrize("by", [-1, 0, 1])
def test_room_is_counted_exactly_above_2_to_the_53rd(both: SideBySide, debt: int, by: int) -> None:
    """What is held and what is owed together: numbers that a double does not have are never added up."""
    id_ = both.world.new_reservation("ada")
    ask(
        both,
        Grant(account="ada", amount=CREDITS_MAX),
        Reserve(account="ada", reservation=id_, amount=CREDITS_MAX, ttl_ms=HOUR_MS),
        Configure(account="ada", overdraft_limit=debt),
        Deduct(account="ada", amount=debt),
        Deduct(account="ada", amount=max(1, CREDITS_MAX + by - 1)),
        Grant(account="ada", amount=max(1, min(CREDITS_MAX, debt + by))),
        Configure(account="ada", overdraft_limit=CREDITS_MAX),
        Adjust(account="ada", amount=-CREDITS_MAX, short="take"),
        Confirm(reservation=id_, amount=CREDITS_MAX - 1),
        Adjust(account="ada", amount=CREDITS_MAX),
        Adjust(account="ada", amount=CREDITS_MAX),
    )


def test_more_than_there_may_be_does_not_come_back(both: SideBySide) -> None:
    """A reservation may have spent more in all than an account may have."""
    id_ = both.world.new_reservation("ada")
    ask(
        both,
        Grant(account="ada", amount=CREDITS_MAX),
        Reserve(account="ada", reservation=id_, amount=CREDITS_MAX, over_capture="charge"),
        Confirm(reservation=id_, amount=CREDITS_MAX - 1, final=False, key="a", fingerprint="f"),
        Grant(account="ada", amount=CREDITS_MAX - 1),
        Confirm(reservation=id_, amount=CREDITS_MAX),
    )
    originals = originals_of(both.reference, both.reference.holds[id_])
    assert word(both, Refund(account="ada", originals=originals)) == "balance_overflow"


def test_a_frozen_account_is_told_so_before_how_much_too_much_it_is(both: SideBySide) -> None:
    id_ = both.world.new_reservation("ada")
    ask(
        both,
        Grant(account="ada", amount=9),
        Reserve(account="ada", reservation=id_, amount=4, ttl_ms=1_000, on_expired="charge"),
        Configure(account="ada", status="frozen"),
    )
    both.set_time(both.now_ms + 1_000)
    assert word(both, Confirm(reservation=id_, amount=5)) == "account_frozen"
    assert word(both, Confirm(reservation=id_, amount=0)) == "ok"


@pytest.mark.parametrize("late_ms", [0, 1])
def test_the_last_moment_of_a_late_confirm_is_a_day_after_the_last_deadline(
    both: SideBySide, late_ms: int
) -> None:
    id_ = both.world.new_reservation("ada")
    ask(
        both,
        Grant(account="ada", amount=9),
        Reserve(account="ada", reservation=id_, amount=4, ttl_ms=1_000, on_expired="charge"),
        Extend(reservation=id_, ttl_ms=5_000),
    )
    both.set_time(both.now_ms + 5_000 + 24 * HOUR_MS + late_ms)
    assert word(both, Confirm(reservation=id_)) == ("reservation_expired" if late_ms else "ok")


def test_a_task_that_is_kept_elsewhere_is_not_remembered_as_a_refusal(both: SideBySide) -> None:
    id_ = both.world.new_reservation("ada")
    ask(
        both,
        Grant(account="ada", amount=9),
        Reserve(account="ada", reservation=id_, amount=4, ttl_ms=1_000, task="t", provider="fal"),
        Extend(reservation=id_, ttl_ms=5_000, key="k", fingerprint="f"),
        Extend(reservation=id_, ttl_ms=5_000, key="k", fingerprint="f"),
    )


def test_a_closed_account_is_told_so_before_whose_the_task_is(both: SideBySide) -> None:
    id_ = both.world.new_reservation("ada")
    ask(
        both,
        Grant(account="ada", amount=9),
        Reserve(account="ada", reservation=id_, amount=4, task="t"),
        Cancel(reservation=id_),
        Deduct(account="ada", amount=9),
        Configure(account="ada", status="closed"),
    )
    assert word(both, Bind(reservation=id_, task="t")) == "ok"
    assert word(both, Bind(reservation=id_, task="another")) == "account_closed"


def test_a_debt_that_a_confirm_repaid_does_not_come_back_with_it(both: SideBySide) -> None:
    id_ = both.world.new_reservation("ada")
    ask(
        both,
        Grant(account="ada", amount=5, bucket="b"),
        Grant(account="ada", amount=5),
        Reserve(account="ada", reservation=id_, amount=10),
        Configure(account="ada", overdraft_limit=3),
        Deduct(account="ada", amount=3),
        Confirm(reservation=id_, amount=6),
    )
    refund = refund_of_last(both)
    assert sum(amount for each in refund.originals for _, _, amount in each.left) == 6
    ask(both, refund)


def test_a_cancel_repays_the_debt_with_what_would_lapse(both: SideBySide) -> None:
    id_ = both.world.new_reservation("ada")
    ask(
        both,
        Grant(account="ada", amount=9, expires_at_ms=both.now_ms + 1_000),
        Reserve(account="ada", reservation=id_, amount=9, ttl_ms=5_000),
        Configure(account="ada", overdraft_limit=4),
        Deduct(account="ada", amount=4),
    )
    both.set_time(both.now_ms + 1_000)
    ask(both, Cancel(reservation=id_))
    kinds = [line.entry.kind for line in both.reference.journal[both.reference.shard("ada")]]
    assert kinds[-2:] == ["cancelled", "lapsed"]

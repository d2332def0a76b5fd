"""The reference on debt, states of an account, and what operators put right."""

from typing import Any

import pytest

from app.ledger.credits import CREDITS_MAX
from app.ledger.entries import Leg
from app.ledger.operations import (
    Adjust,
    Bind,
    Cancel,
    Configure,
    Confirm,
    Deduct,
    Extend,
    Grant,
    Refund,
    Reserve,
)
from app.ledger.shards import new_reservation_id
from tests.reference import Broken, Refused
from tests.reference.refunds import original_of
from tests.reference.told import NOW, Told

OVERDRAFT = "overdraft"


@pytest.fixture
def told() -> Told:
    return Told()


def lots(told: Told) -> list[tuple[str, int, int]]:
    return [(lot.bucket, lot.available, lot.held) for lot in told.account().lots]


def test_a_deduct_takes_what_there_is_and_then_the_overdraft(told: Told) -> None:
    told.grant(10)
    told.configure(overdraft_limit=30)
    assert told.legs(Deduct(account="ada", amount=35)) == [
        Leg("default", 0, -10, 0),
        Leg(OVERDRAFT, 0, -25, 0),
    ]
    assert told.balance() == (-25, 0)
    assert lots(told) == [("default", 0, 0), (OVERDRAFT, -25, 0)]
    facts: dict[str, int | str] = {"required": 6, "available": -25, "held": 0}
    assert told(Deduct(account="ada", amount=6)) == Refused("insufficient_credits", facts)
    told.deduct(5)


def test_whether_waiting_helps_counts_the_overdraft_for_a_deduct_only(told: Told) -> None:
    told.grant(10)
    told.configure(overdraft_limit=30)
    told.reserve(8)
    assert told.word(Deduct(account="ada", amount=40)) == "credits_held"
    assert told.word(Deduct(account="ada", amount=41)) == "insufficient_credits"
    id_ = new_reservation_id(0, NOW)
    assert told.word(Reserve(account="ada", reservation=id_, amount=10)) == "credits_held"
    assert told.word(Reserve(account="ada", reservation=id_, amount=11)) == "insufficient_credits"


def test_what_is_granted_repays_debt_first_and_makes_a_lot_of_the_rest(told: Told) -> None:
    told.configure(overdraft_limit=50)
    told.deduct(30)
    assert told.legs(Grant(account="ada", amount=20, bucket="plan")) == [Leg(OVERDRAFT, 0, 20, 0)]
    assert lots(told) == [(OVERDRAFT, -10, 0)]
    assert told.legs(Grant(account="ada", amount=20, bucket="plan")) == [
        Leg("plan", 0, 10, 0), Leg(OVERDRAFT, 0, 10, 0),
    ]  # fmt: skip
    assert lots(told) == [("plan", 10, 0)]


def test_what_is_released_repays_debt_also_when_its_lot_has_lapsed(told: Told) -> None:
    told.grant(10, expires_at_ms=NOW + 1_000)
    id_ = told.reserve(10, ttl_ms=5_000)
    told.configure(overdraft_limit=4)
    told.deduct(4)
    told.now_ms += 2_000
    assert told.legs(Cancel(reservation=id_)) == [
        Leg("default", NOW + 1_000, 6, -10), Leg(OVERDRAFT, 0, 4, 0),
    ]  # fmt: skip
    assert (told.kinds[-1], told.balance()) == ("lapsed", (0, 0))


def test_debt_is_not_one_of_the_64_lots(told: Told) -> None:
    told.configure(overdraft_limit=5)
    for number in range(64):
        told.grant(1, bucket=f"b{number}")
    told.reserve(64)
    told.deduct(5)
    assert told.word(Grant(account="ada", amount=6, bucket="more")) == "limit_reached"
    told.grant(5, bucket="more")
    assert told.balance() == (0, 64)


def test_a_debt_makes_room_for_as_much_as_it_is(told: Told) -> None:
    told.configure(overdraft_limit=CREDITS_MAX)
    told.deduct(CREDITS_MAX)
    told.grant(CREDITS_MAX)
    told.grant(CREDITS_MAX)
    assert told(Grant(account="ada", amount=1)) == Refused(
        "balance_overflow", {"available": CREDITS_MAX, "held": 0}
    )


def test_a_limit_does_not_go_below_the_debt(told: Told) -> None:
    told.configure(overdraft_limit=50)
    told.deduct(30)
    assert told(Configure(account="ada", overdraft_limit=29)) == Refused("overdraft_in_use", {"debt": 30})
    told.configure(overdraft_limit=30)
    assert told.word(Deduct(account="ada", amount=1)) == "insufficient_credits"


def test_settings_that_are_as_they_should_be_make_no_entry(told: Told) -> None:
    opened = told.configure(low_balance=5)
    assert opened.line
    assert (opened.line.entry.low_balance, opened.account.version) == (5, 1)
    assert told.configure(low_balance=5, status="active").line is None
    changed = told.configure(low_balance=5, overdraft_limit=3)
    assert changed.line
    assert (changed.line.entry.low_balance, changed.line.entry.overdraft_limit) == (None, 3)


def test_a_frozen_account_spends_only_what_is_held(told: Told) -> None:
    told.grant(100)
    kept, cut, short = told.reserve(10), told.reserve(10), told.reserve(10, over_capture="charge")
    late = told.reserve(10, ttl_ms=1_000, on_expired="charge")
    told.now_ms += 1_000
    line = told.deduct(5)
    told.configure(status="frozen")
    for spending in (
        Deduct(account="ada", amount=1),
        Reserve(account="ada", reservation=new_reservation_id(0, NOW), amount=1, holds_max=0),
        Extend(reservation=kept, ttl_ms=86_400_000),
        Confirm(reservation=short, amount=11),
        Confirm(reservation=late, amount=99),
    ):
        assert told.word(spending) == "account_frozen"
    assert told.word(Confirm(reservation=kept, amount=11)) == "exceeds_reservation"
    told.applied(Confirm(reservation=short, amount=11, over_capture="cap"))
    told.part(kept, 4)
    told.applied(Bind(reservation=kept, task="t"))
    told.applied(Confirm(reservation=kept))
    told.applied(Cancel(reservation=cut))
    told.grant(1)
    told.applied(Adjust(account="ada", amount=-1))
    told.applied(Refund(account="ada", originals=[original_of(told.ledger, line)]))
    told.configure(status="active")
    told.applied(Deduct(account="ada", amount=1))


def test_a_closed_account_takes_nothing_until_it_is_active_again(told: Told) -> None:
    told.grant(10)
    id_, bound = told.reserve(3), told.reserve(3)
    assert told(Configure(account="ada", status="closed")) == Refused(
        "account_not_empty", {"available": 4, "held": 6}
    )
    told.applied(Confirm(reservation=id_))
    told.applied(Cancel(reservation=bound))
    line = told.deduct(7)
    told.configure(status="closed")
    for writing in (
        Grant(account="ada", amount=1),
        Deduct(account="ada", amount=1),
        Adjust(account="ada", amount=-1, short="take"),
        Refund(account="ada", originals=[original_of(told.ledger, line)]),
        Bind(reservation=bound, task="t"),
        Configure(account="ada", low_balance=3),
    ):
        assert told.word(writing) == "account_closed"
    assert told.applied(Confirm(reservation=id_)).replayed
    told.configure(status="frozen")
    told.grant(1)


@pytest.mark.parametrize(("bucket", "legs"), [
    (None, [Leg("b", 0, -5, 0), Leg("a", 0, -5, 0), Leg(OVERDRAFT, 0, -2, 0)]), ("a", [Leg("a", 0, -5, 0)]),
])  # fmt: skip
def test_an_adjustment_takes_what_there_is_and_says_what_was_short(
    told: Told, bucket: str | None, legs: list[Leg]
) -> None:
    told.grant(5, bucket="a")
    told.grant(5, bucket="b", priority=1)
    told.configure(overdraft_limit=2)
    taken = -sum(leg.available for leg in legs)
    assert told.word(Adjust(account="ada", amount=-taken - 1, bucket=bucket)) == "insufficient_credits"
    entry = told.line(Adjust(account="ada", amount=-taken - 1, bucket=bucket, short="take")).entry
    assert (entry.legs, entry.amount, entry.shortfall, entry.bucket) == (legs, -taken, 1, bucket)


def test_an_adjustment_upwards_repays_debt_first(told: Told) -> None:
    told.configure(overdraft_limit=5)
    told.deduct(5)
    assert told.legs(Adjust(account="ada", amount=7)) == [
        Leg("default", 0, 2, 0), Leg(OVERDRAFT, 0, 5, 0),
    ]  # fmt: skip
    assert told.legs(Adjust(account="ada", amount=7, bucket="gift")) == [Leg("gift", 0, 7, 0)]


def test_leftovers_move_along_soonest_first_and_not_more_than_asked(told: Told) -> None:
    soon, later, last = NOW + 1_000, NOW + 2_000, NOW + 3_000
    told.grant(5, bucket="plan", expires_at_ms=soon)
    told.grant(5, bucket="plan", expires_at_ms=later)
    told.grant(5, bucket="plan", expires_at_ms=last + 1)
    told.grant(5, bucket="plan")
    told.grant(5, bucket="other", expires_at_ms=soon)
    granted = told.line(Grant(account="ada", amount=20, bucket="plan", expires_at_ms=last, rollover=7)).entry
    assert granted.legs == [
        Leg("plan", soon, -5, 0), Leg("plan", later, -2, 0), Leg("plan", last, 27, 0),
    ]  # fmt: skip
    assert (granted.amount, granted.rollover) == (20, 7)
    forever = told.line(Grant(account="ada", amount=1, bucket="plan", rollover=CREDITS_MAX)).entry
    assert (forever.rollover, forever.legs[-1]) == (35, Leg("plan", 0, 36, 0))
    assert told.line(Grant(account="ada", amount=1, bucket="plan", rollover=1)).entry.rollover is None


def test_what_is_held_does_not_roll_over(told: Told) -> None:
    told.grant(5, expires_at_ms=NOW + 1_000)
    told.reserve(4)
    assert told.line(Grant(account="ada", amount=1, rollover=9)).entry.rollover == 1


@pytest.mark.parametrize("spoilt", [{"overdraft_limit": 4}, {"status": "frozen"}])
def test_the_check_finds_a_setting_that_nobody_wrote_down(told: Told, spoilt: dict[str, Any]) -> None:
    told.configure(overdraft_limit=5)
    for name, value in spoilt.items():
        setattr(told.ledger.accounts["ada"], name, value)
    with pytest.raises(Broken, match="settings"):
        told.ledger.check()

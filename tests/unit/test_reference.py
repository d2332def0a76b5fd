"""The reference against the specification, where the specification names the answer."""

from typing import Any

import pytest

from app.ledger.credits import CREDITS_MAX
from app.ledger.entries import Leg
from app.ledger.operations import Balance, Bind, Cancel, Confirm, Deduct, Grant, Locate, Reserve
from app.ledger.shards import new_reservation_id
from tests.reference import Broken, Refused, Seen
from tests.reference.told import NOW, Told

DAY = 86_400_000


@pytest.fixture
def told() -> Told:
    return Told()


def test_three_jobs_leave_what_the_shop_expects(told: Told) -> None:
    told.grant(100)
    for amount in (51, 13, 13):
        told.applied(Deduct(account="ada", amount=amount))
    assert told.balance() == (23, 0)


def test_refusals_come_in_the_documented_order(told: Told) -> None:
    """Each row repairs the fault of the row above."""
    id_, other = new_reservation_id(0, NOW), new_reservation_id(0, NOW + 1)
    told.grant(10, account="eve")
    told.applied(Reserve(account="eve", reservation=other, amount=1, task="t"))
    told.grant(10, key="k", fingerprint="f")
    asked = Reserve(
        account="bob", reservation=id_, amount=30, task="t", holds_max=0, key="k", fingerprint="g"
    )
    assert told.word(asked) == "account_not_found"
    asked.account = "ada"
    assert told.word(asked) == "idempotency_mismatch"
    asked.key = asked.fingerprint = None
    assert told.word(asked) == "task_conflict"
    asked.task = None
    assert told.word(asked) == "limit_reached"
    asked.holds_max = 10
    assert told.word(asked) == "insufficient_credits"
    asked.amount = 10
    told.applied(asked)
    assert told.word(Deduct(account="ada", amount=10)) == "credits_held"


def test_a_grant_is_refused_for_its_expiry_before_its_size(told: Told) -> None:
    told.grant(1)
    asked = Grant(account="ada", amount=CREDITS_MAX, expires_at_ms=NOW)
    assert told(asked) == Refused("already_expired", {"expires_at_ms": NOW, "now_ms": NOW})
    asked.expires_at_ms = NOW + 1
    assert told(asked) == Refused("balance_overflow", {"available": 1, "held": 0})
    asked.amount = CREDITS_MAX - 1
    told.applied(asked)


def test_a_poor_account_is_told_whether_waiting_helps(told: Told) -> None:
    told.grant(100)
    told.reserve(60, ttl_ms=5_000)
    told.reserve(10, ttl_ms=2_000)
    facts = {"required": 100, "available": 30, "held": 70}
    assert told(Deduct(account="ada", amount=100)) == Refused(
        "credits_held", {**facts, "open_reservations": 2, "next_release_at_ms": NOW + 2_000}
    )
    assert told(Deduct(account="ada", amount=101)) == Refused(
        "insufficient_credits", {**facts, "required": 101}
    )


def test_spending_takes_priority_then_expiry_then_age(told: Told) -> None:
    told.grant(1, bucket="never")
    told.grant(1, bucket="late", expires_at_ms=NOW + 2_000)
    told.grant(1, bucket="soon", expires_at_ms=NOW + 1_000)
    told.grant(1, bucket="first", priority=1)
    told.grant(1, bucket="younger")
    legs = told.legs(Deduct(account="ada", amount=5))
    assert [leg.bucket for leg in legs] == ["first", "soon", "late", "never", "younger"]


def test_priority_belongs_to_the_bucket_and_outlives_its_credits(told: Told) -> None:
    told.grant(1, bucket="plan", priority=5, expires_at_ms=NOW + 1_000)
    told.applied(Deduct(account="ada", amount=1))
    granted = told.grant(1, bucket="plan", expires_at_ms=NOW + 2_000)
    assert [(lot.priority, lot.expires_at_ms) for lot in granted.account.lots] == [(5, NOW + 2_000)]
    granted = told.grant(1, bucket="plan", priority=7)
    assert [lot.priority for lot in granted.account.lots] == [7, 7]


def test_the_65th_lot_takes_the_oldest_empty_row_or_is_refused(told: Told) -> None:
    for number in range(64):
        told.grant(1, bucket=f"b{number}", priority=number)
    assert told(Grant(account="ada", amount=1, bucket="more")) == Refused(
        "limit_reached", {"what": "lots", "limit": 64}
    )
    told.applied(Deduct(account="ada", amount=2))
    assert "b0" not in [lot.bucket for lot in told.grant(1, bucket="more").account.lots]


def test_a_confirm_captures_in_order_and_releases_in_reverse(told: Told) -> None:
    for bucket in ("a", "b", "c", "d"):
        told.grant(10, bucket=bucket)
    id_ = told.reserve(40)
    confirmed = told.applied(Confirm(reservation=id_, amount=15))
    assert confirmed.line
    assert confirmed.line.entry.legs == [
        Leg("a", 0, 0, -10), Leg("b", 0, 5, -10), Leg("d", 0, 10, -10), Leg("c", 0, 10, -10),
    ]  # fmt: skip
    assert confirmed.reservation
    assert (confirmed.reservation.captured, confirmed.reservation.released) == (15, 25)


def test_confirming_again_replays_whatever_amount_is_named(told: Told) -> None:
    told.grant(10)
    id_ = told.reserve(10)
    first = told.applied(Confirm(reservation=id_, amount=4))
    for amount in (None, 4, 9, 99):
        assert told(Confirm(reservation=id_, amount=amount)) == first._replace(replayed=True)
    assert told(Cancel(reservation=id_)) == Refused("reservation_confirmed", {"at_ms": NOW})


@pytest.mark.parametrize("cause", ["requested", "failed"])
def test_cancelling_again_replays_and_confirming_is_told_why_not(told: Told, cause: Any) -> None:
    told.grant(10)
    id_ = told.reserve(10)
    first = told.applied(Cancel(reservation=id_, cause=cause))
    assert told(Cancel(reservation=id_)) == first._replace(replayed=True)
    assert told(Confirm(reservation=id_)) == Refused("reservation_cancelled", {"cause": cause, "at_ms": NOW})


def test_a_hold_ends_at_its_deadline_and_not_before(told: Told) -> None:
    told.grant(10)
    id_ = told.reserve(10, ttl_ms=1_000)
    told.now_ms = NOW + 999
    assert told.find(id_).status == "pending"
    told.now_ms = NOW + 1_000
    assert told.balance() == (10, 0)
    expired = Refused("reservation_expired", {"at_ms": NOW + 1_000})
    assert [told(Confirm(reservation=id_)), told(Cancel(reservation=id_))] == [expired, expired]


def test_what_is_held_lapses_only_when_it_comes_back(told: Told) -> None:
    told.grant(10, expires_at_ms=NOW + 1_000)
    id_ = told.reserve(6, ttl_ms=5_000)
    told.now_ms = NOW + 1_000
    assert told.balance() == (0, 6)
    told.applied(Confirm(reservation=id_, amount=2))
    assert told.balance() == (0, 0)
    assert told.kinds == ["granted", "reserved", "lapsed", "confirmed", "lapsed"]


def test_time_passes_in_order_of_time_and_then_of_name(told: Told) -> None:
    told.grant(5, expires_at_ms=NOW + 2_000)
    told.grant(5)
    told.reserve(7, ttl_ms=2_000)
    told.reserve(1, ttl_ms=1_000)
    told.now_ms = NOW + 3_000
    told.ledger.pass_time(0, told.now_ms)
    assert told.kinds[4:] == ["expired", "expired", "lapsed"]
    told.ledger.check()


def test_time_never_goes_back(told: Told) -> None:
    told.grant(1)
    told.now_ms = NOW - 5
    assert told.line(Grant(account="ada", amount=1)).entry.at_ms == NOW


def test_a_key_replays_applied_and_refused_answers_for_a_day(told: Told) -> None:
    poor = Deduct(account="ada", amount=5, key="poor", fingerprint="f")
    first = told.grant(1, key="rich", fingerprint="f")
    facts: dict[str, int | str] = {"required": 5, "available": 1, "held": 0}
    assert told(poor) == Refused("insufficient_credits", facts)
    told.grant(10)
    assert told(poor) == Refused("insufficient_credits", facts, replayed=True)
    again = told.applied(Grant(account="ada", amount=1, key="rich", fingerprint="f"))
    assert (again.line, again.replayed, again.account.available) == (first.line, True, 11)
    told.now_ms += DAY
    assert told.applied(poor).replayed is False


def test_a_key_with_other_content_is_refused_and_keeps_its_answer(told: Told) -> None:
    told.grant(5, key="k", fingerprint="f")
    assert told.word(Deduct(account="ada", amount=1, key="k", fingerprint="g")) == "idempotency_mismatch"
    assert told.applied(Grant(account="ada", amount=5, key="k", fingerprint="f")).replayed


def test_what_does_not_exist_is_not_remembered(told: Told) -> None:
    asked = Deduct(account="ada", amount=1, key="k", fingerprint="f")
    assert told.word(asked) == "account_not_found"
    told.grant(1)
    told.applied(asked)
    confirm = Confirm(reservation=new_reservation_id(0, NOW), account="eve", key="k", fingerprint="f")
    assert told.word(confirm) == "reservation_not_found"
    told.grant(1)
    confirm.reservation = told.reserve(1)
    assert told.word(confirm) == "reservation_not_found"
    confirm.account = "ada"
    told.applied(confirm)


def test_more_than_is_held_is_refused_and_the_hold_stays(told: Told) -> None:
    told.grant(10)
    id_ = told.reserve(4)
    assert told(Confirm(reservation=id_, amount=5)) == Refused(
        "exceeds_reservation", {"required": 5, "held": 4}
    )
    assert told.find(id_).status == "pending"


def test_a_task_belongs_to_one_reservation(told: Told) -> None:
    told.grant(10)
    first, second = told.reserve(1, task="t", provider="fal"), told.reserve(1)
    again = told.applied(Bind(reservation=first, task="t", provider="fal"))
    assert again.line
    assert (again.line.entry.kind, again.replayed) == ("reserved", True)
    assert told(Bind(reservation=first, task="u")) == Refused(
        "task_conflict", {"reservation": first, "task": "t"}
    )
    assert told(Bind(reservation=second, task="t", provider="fal")) == Refused(
        "task_conflict", {"reservation": first, "task": "t"}
    )
    bound = told.applied(Bind(reservation=second, task="t", resource="video-1"))
    assert bound.line
    assert (bound.line.entry.kind, bound.line.entry.amount, bound.line.entry.legs) == ("bound", 0, [])
    assert told(Bind(reservation=second, task="t")) == bound._replace(replayed=True)
    assert told(Locate(task="t")) == Seen(None, [], second)
    assert told.find(second).resource == "video-1"
    assert told.word(Bind(reservation=second, task="t", resource="video-2")) == "task_conflict"
    assert told.word(Locate(task="nobody's")) == "reservation_not_found"


def test_a_task_is_free_again_a_day_after_the_deadline_of_its_reservation(told: Told) -> None:
    told.grant(10)
    told.applied(Cancel(reservation=told.reserve(1, task="t")))
    id_ = new_reservation_id(0, NOW)
    told.now_ms += 1_800_000 + DAY - 1
    assert told.word(Reserve(account="ada", reservation=id_, amount=1, task="t")) == "task_conflict"
    told.now_ms += 1
    told.applied(Reserve(account="ada", reservation=id_, amount=1, task="t"))


def test_a_balance_shows_the_open_reservations_by_deadline(told: Told) -> None:
    told.grant(10)
    late, soon = told.reserve(1, ttl_ms=9_000), told.reserve(1, ttl_ms=8_000)
    seen = told(Balance(account="ada", open=True))
    assert isinstance(seen, Seen)
    assert [each.id for each in seen.reservations] == [soon, late]


def test_the_check_finds_a_credit_that_nobody_wrote_down(told: Told) -> None:
    told.grant(10)
    told.ledger.accounts["ada"].lots[0].available += 1
    with pytest.raises(Broken, match="I3"):
        told.ledger.check()

"""The reference on parts, policies, late confirms, extensions, refunds and groups."""

from typing import Any

import pytest

from app.ledger.entries import Leg
from app.ledger.operations import Cancel, Confirm, Deduct, Extend, Grant, Operation, Refund, Reserve, Trace
from app.ledger.shards import new_reservation_id
from tests.reference import Broken, Line, Refused, Seen
from tests.reference.refunds import original_of, originals_of
from tests.reference.told import NOW, Told

DAY = 86_400_000


@pytest.fixture
def told() -> Told:
    told = Told()
    told.grant(100)
    return told


def refund(told: Told, *lines: Line, **more: Any) -> Operation:
    return Refund(account="ada", originals=[original_of(told.ledger, line) for line in lines], **more)


def test_parts_add_up_and_the_last_one_ends(told: Told) -> None:
    id_ = told.reserve(10)
    told.part(id_, 3, "a")
    told.part(id_, 3, "b")
    found = told.find(id_)
    assert (found.status, found.captured, found.held, len(found.parts)) == ("pending", 6, 4, 2)
    told.part(id_, 4, "c")
    found = told.find(id_)
    assert (found.status, found.captured, found.released, len(found.parts)) == ("confirmed", 10, 0, 2)


def test_a_part_is_replayed_by_its_key_for_ever(told: Told) -> None:
    id_ = told.reserve(10, ttl_ms=2 * DAY)
    first = told.part(id_, 3, "a")
    told.now_ms += DAY
    again = Confirm(reservation=id_, amount=3, final=False, key="a", fingerprint="f")
    assert told.applied(again).line == first
    told.applied(Cancel(reservation=id_))
    told.now_ms += DAY
    assert told.applied(again).line == first
    again.fingerprint = "g"
    told.now_ms += DAY
    assert told.word(again) == "idempotency_mismatch"


def test_parts_captured_and_then_cancelled_stay_captured(told: Told) -> None:
    id_ = told.reserve(10)
    told.part(id_, 3)
    told.applied(Cancel(reservation=id_))
    found = told.find(id_)
    assert (found.status, found.captured, found.released) == ("cancelled", 3, 7)


def test_the_101st_part_is_refused_unless_it_takes_the_rest(told: Told) -> None:
    told.grant(100)
    id_ = told.reserve(102)
    for number in range(100):
        told.part(id_, 1, str(number))
    more = Confirm(reservation=id_, amount=1, final=False, key="more", fingerprint="f")
    assert told(more) == Refused("limit_reached", {"what": "parts", "limit": 100})
    told.part(id_, 2, "all")
    assert told.find(id_).status == "confirmed"


def test_more_than_is_held_is_what_the_policy_says(told: Told) -> None:
    capped, charged = told.reserve(10, over_capture="cap"), told.reserve(10)
    assert told.line(Confirm(reservation=capped, amount=15)).entry.amount == 10
    assert told(Confirm(reservation=charged, amount=15)) == Refused(
        "exceeds_reservation", {"required": 15, "held": 10}
    )
    entry = told.line(Confirm(reservation=charged, amount=15, over_capture="charge")).entry
    assert (entry.captured, entry.charged, entry.legs) == (10, 5, [Leg("default", 0, -5, -10)])


def test_a_charge_that_does_not_suffice_changes_nothing_and_tells_of_the_other_holds(told: Told) -> None:
    id_, other = told.reserve(60, over_capture="charge"), told.reserve(30, ttl_ms=5_000)
    facts = {"required": 40, "available": 10, "held": 30}
    assert told(Confirm(reservation=id_, amount=100)) == Refused(
        "credits_held", {**facts, "open_reservations": 1, "next_release_at_ms": NOW + 5_000}
    )
    assert told(Confirm(reservation=id_, amount=101)) == Refused(
        "insufficient_credits", {**facts, "required": 41}
    )
    told.applied(Cancel(reservation=other))
    told.configure(overdraft_limit=5)
    entry = told.line(Confirm(reservation=id_, amount=105)).entry
    assert entry.legs == [Leg("default", 0, -40, -60), Leg("overdraft", 0, -5, 0)]


def test_a_late_confirm_takes_what_is_available_now(told: Told) -> None:
    id_ = told.reserve(30, ttl_ms=1_000, on_expired="charge")
    told.part(id_, 10)
    told.now_ms += 1_000 + DAY
    entry = told.line(Confirm(reservation=id_)).entry
    assert (entry.amount, entry.captured, entry.charged, entry.released, entry.late) == (20, 0, 20, 0, True)
    found = told.find(id_)
    assert (found.status, found.late, found.captured, found.charged, found.released) == (
        "confirmed", True, 10, 20, 20,
    )  # fmt: skip
    assert found.cancel_cause is None
    assert told.applied(Confirm(reservation=id_)).replayed
    assert told.word(Cancel(reservation=id_)) == "reservation_confirmed"


def test_a_confirm_is_too_late_a_day_after_the_deadline_or_after_a_cancel(told: Told) -> None:
    id_, cancelled = told.reserve(1, ttl_ms=1_000, on_expired="charge"), told.reserve(1, on_expired="charge")
    told.applied(Cancel(reservation=cancelled))
    assert told.word(Confirm(reservation=cancelled)) == "reservation_cancelled"
    told.now_ms += 1_000
    assert told.word(Confirm(reservation=id_, on_expired="reject")) == "reservation_expired"
    told.now_ms += DAY + 1
    assert told.word(Confirm(reservation=id_)) == "reservation_expired"


def test_a_late_confirm_of_more_than_was_reserved_is_what_the_policy_says(told: Told) -> None:
    rejecting, capping, charging = [
        told.reserve(10, ttl_ms=1_000, on_expired="charge", over_capture=policy)
        for policy in ("reject", "cap", "charge")
    ]
    told.now_ms += 1_000
    assert told(Confirm(reservation=rejecting, amount=11)) == Refused(
        "exceeds_reservation", {"required": 11, "held": 10}
    )
    assert told.line(Confirm(reservation=capping, amount=11)).entry.charged == 10
    assert told(Confirm(reservation=charging, amount=91)) == Refused(
        "insufficient_credits", {"required": 91, "available": 90, "held": 0}
    )
    assert told.line(Confirm(reservation=charging, amount=11)).entry.charged == 11


def test_a_deadline_moves_on_and_never_back(told: Told) -> None:
    id_ = told.reserve(10, ttl_ms=5_000)
    told.now_ms += 2_000
    assert told(Extend(reservation=id_, ttl_ms=2_999)) == Refused(
        "invalid_extension", {"expires_at_ms": NOW + 5_000, "latest_ms": NOW + 4_999}
    )
    entry = told.line(Extend(reservation=id_, ttl_ms=3_000)).entry
    assert (entry.kind, entry.amount, entry.legs, entry.deadline_ms) == ("extended", 0, [], NOW + 5_000)
    told.applied(Extend(reservation=id_, ttl_ms=4_000))
    told.now_ms = NOW + 5_999
    assert told.find(id_).extensions == 2
    told.now_ms += 1
    assert told(Extend(reservation=id_, ttl_ms=9_000)) == Refused(
        "reservation_expired", {"at_ms": NOW + 6_000}
    )


def test_the_101st_extension_is_refused(told: Told) -> None:
    id_ = told.reserve(10)
    for _ in range(100):
        told.applied(Extend(reservation=id_, ttl_ms=1_800_000))
    assert told(Extend(reservation=id_, ttl_ms=1_800_000)) == Refused(
        "limit_reached", {"what": "extensions", "limit": 100}
    )


def test_a_task_stays_taken_as_long_as_its_reservation_is_extended(told: Told) -> None:
    id_ = told.reserve(1, ttl_ms=1_000, task="t")
    told.applied(Extend(reservation=id_, ttl_ms=DAY))
    told.now_ms += DAY + 1_000
    asked = Reserve(account="ada", reservation=new_reservation_id(0, NOW), amount=1, task="t")
    assert told.word(asked) == "task_conflict"


def test_what_was_spent_comes_back_in_reverse_and_never_twice(told: Told) -> None:
    told.grant(10, bucket="b", priority=1)
    line = told.deduct(30)
    assert told.legs(refund(told, line, amount=25)) == [Leg("default", 0, 20, 0), Leg("b", 0, 5, 0)]
    assert told(refund(told, line, amount=6)) == Refused(
        "exceeds_transaction", {"required": 6, "refunded": 25, "left": 5}
    )
    last = told.line(refund(told, line)).entry
    assert (last.legs, last.refund_of) == ([Leg("b", 0, 5, 0)], told.ledger.transaction(line))
    assert told.word(refund(told, line)) == "exceeds_transaction"
    told.now_ms += DAY
    assert told.word(refund(told, line, amount=1)) == "exceeds_transaction"


def test_what_was_not_spent_cannot_come_back_and_is_remembered(told: Told) -> None:
    never = Refund(account="ada", originals=[], refusal={"kind": "granted"}, key="k", fingerprint="f")
    assert told(never) == Refused("not_refundable", {"kind": "granted"})
    assert told.refused(never).replayed
    told.deduct(100)
    told.configure(status="closed")
    never.key = "another"
    assert told.word(never) == "account_closed"


def test_what_comes_back_into_a_lot_that_has_lapsed_lapses_at_once(told: Told) -> None:
    told.grant(10, bucket="b", priority=1, expires_at_ms=NOW + 1_000)
    line = told.deduct(20)
    told.now_ms += 1_000
    entry = told.line(refund(told, line, amount=15)).entry
    assert (entry.lapsed, told.kinds[-2:], told.balance()) == (5, ["refunded", "lapsed"], (100, 0))
    assert told.legs(refund(told, line, bucket="gift")) == [Leg("gift", 0, 5, 0)]


def test_what_was_owed_and_is_not_any_more_comes_back_to_the_default_bucket(told: Told) -> None:
    told.configure(overdraft_limit=20)
    line = told.deduct(120)
    told.grant(15, bucket="plan")
    assert told.legs(refund(told, line, amount=20)) == [
        Leg("default", 0, 15, 0), Leg("overdraft", 0, 5, 0),
    ]  # fmt: skip


def test_a_debt_that_a_confirm_repaid_is_not_given_back_with_it(told: Told) -> None:
    told.grant(10, bucket="b")
    id_ = told.reserve(110)
    told.configure(overdraft_limit=20)
    told.deduct(20)
    confirm = told.line(Confirm(reservation=id_, amount=60))
    assert original_of(told.ledger, confirm).left == [("default", 0, 60)]
    assert told.word(refund(told, confirm, amount=61)) == "exceeds_transaction"


def test_a_reservation_gives_back_its_latest_capture_first(told: Told) -> None:
    id_ = told.reserve(30)
    told.part(id_, 10, "a")
    told.part(id_, 10, "b")
    originals = originals_of(told.ledger, told.ledger.holds[id_])
    first = told.line(Refund(account="ada", originals=originals, amount=15)).entry
    second = told.ledger.journal[0][-1].entry
    assert [(each.amount, each.refund_of) for each in (first, second)] == [
        (10, originals[0].transaction), (5, originals[1].transaction),
    ]  # fmt: skip
    assert (first.reservation, told.find(id_).held) == (id_, 10)


def test_a_group_happens_as_a_whole_or_not_at_all(told: Told) -> None:
    rich = Grant(account="eve", amount=5, key="g", fingerprint="f")
    poor = Deduct(account="ada", amount=60, key="d", fingerprint="f")
    before = told.account()
    assert told.together(rich, Deduct(account="ada", amount=60), poor, Deduct(account="ada", amount=1)) == (
        ["batch_failed", "batch_failed", "insufficient_credits", "batch_failed"], 2,
    )  # fmt: skip
    assert (told.account(), told.kinds) == (before, ["granted"])
    assert "eve" not in told.ledger.accounts
    assert told.refused(poor).replayed
    assert told.together(rich, Deduct(account="eve", amount=5)) == (["ok", "ok"], None)
    assert told.applied(rich).replayed


def test_a_group_that_fails_writes_not_even_what_time_did(told: Told) -> None:
    told.grant(5, bucket="b", expires_at_ms=NOW + 1_000)
    told.now_ms += 1_000
    assert told.together(Deduct(account="ada", amount=101)) == (["insufficient_credits"], 0)
    assert told.kinds == ["granted", "granted"]
    assert told.balance() == (100, 0)
    assert told.kinds == ["granted", "granted", "lapsed"]


def test_a_transaction_is_traced_as_far_as_there_is_one(told: Told) -> None:
    assert told(Trace(shard=0, sequence=1)) == Seen(None, [], line=told.ledger.journal[0][0])
    assert told(Trace(shard=0, sequence=2)) == Refused("transaction_not_found", {})


def test_the_check_finds_a_refund_that_exceeds(told: Told) -> None:
    line = told.deduct(5)
    twice = refund(told, line)
    told.applied(twice)
    told.ledger.refunded.clear()
    told.ledger.apply(twice, NOW)
    with pytest.raises(Broken, match="gave back 10"):
        told.ledger.check()

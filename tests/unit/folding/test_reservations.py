"""A reservation is what its entries make of it, and ends once (I3, I5)."""

import msgspec
import pytest

from app.ledger.entries import Price, Stands
from app.ledger.replies import Part
from persistence.folding import Contradiction, Reservation
from tests.unit.folding.by_hand import entry

MADE = entry(
    "reserved", 3, (137, 13), ("plan", 9000, -13, 13), amount=13, reservation="r", deadline_ms=5000, task="t"
)
BOUND = entry("bound", 4, (137, 13), reservation="r", task="u", provider="fal")
EXTENDED = entry("extended", 4, (137, 13), reservation="r", deadline_ms=7000, task="t")
CONFIRMED = entry(
    "confirmed", 4, (139, 0), ("plan", 9000, 2, -13),
    reservation="r", captured=11, charged=0, released=2, model="m",
)  # fmt: skip
EXPIRED = entry("expired", 4, (150, 0), ("plan", 9000, 13, -13), reservation="r", released=13)
CANCELLED = entry(
    "cancelled", 4, (150, 0), ("plan", 9000, 13, -13), reservation="r", released=13, cause="failed"
)
PART = entry(
    "confirmed", 4, (137, 9), ("plan", 9000, 0, -4),
    reservation="r", captured=4, charged=0, released=0, key="k", fingerprint="f",
)  # fmt: skip
CHARGED = entry(
    "confirmed", 4, (130, 0), ("plan", 9000, -7, -13), reservation="r", captured=13, charged=7, released=0
)
LATE = entry(
    "confirmed", 5, (141, 0), ("plan", 9000, -9, 0),
    reservation="r", captured=0, charged=9, released=0, late=True, model="m",
)  # fmt: skip


@pytest.fixture
def made() -> Reservation:
    return Reservation.made_by(MADE, 5, 13)


@pytest.fixture
def expired(made) -> Reservation:
    made.fold(EXPIRED, 8, -13)
    return made


def state(each: Reservation) -> tuple[object, ...]:
    return (
        each.status,
        each.cancel_cause,
        each.reserved,
        each.captured,
        each.released,
        each.held,
        each.ended_seq,
    )


def test_a_reservation_ends_as_its_entry_says():
    ends = {
        "confirmed": (CONFIRMED, ("confirmed", None, 13, 11, 2, 0, 9)),
        "expired": (EXPIRED, ("cancelled", "expired", 13, 0, 13, 0, 9)),
        "cancelled": (CANCELLED, ("cancelled", "failed", 13, 0, 13, 0, 9)),
    }
    for end, expected in ends.values():
        reservation = Reservation.made_by(MADE, 5, 13)
        assert state(reservation) == ("pending", None, 13, 0, 0, 13, None)
        reservation.fold(end, 9, -13)
        assert state(reservation) == expected
        assert reservation.settled_at_ms == 1004


def test_a_task_is_bound_at_once_or_later_and_binding_moves_nothing(made):
    assert (made.task, made.provider, made.bound_seq) == ("t", None, 5)
    made.fold(BOUND, 6, 0)
    assert (made.task, made.provider, made.bound_seq) == ("u", "fal", 6)
    assert state(made) == ("pending", None, 13, 0, 0, 13, None)


def test_what_was_agreed_on_is_kept_from_the_first_entry_on(made):
    price = Price(model="m", version=3, base="0", price="1.5", units="8")
    assert (made.over_capture, made.on_expired, made.price) == ("reject", "reject", None)
    agreed = msgspec.structs.replace(MADE, over_capture="cap", on_expired="charge", price=price)
    its = Reservation.made_by(agreed, 5, 13)
    assert (its.over_capture, its.on_expired, its.price) == ("cap", "charge", price)


def test_a_part_is_captured_and_the_rest_stays_held(made):
    made.fold(PART, 6, -4)
    assert state(made) == ("pending", None, 13, 4, 0, 9, None)
    second = msgspec.structs.replace(PART, captured=5, amount=5, key="l", fingerprint="g")
    made.fold(second, 7, -5)
    assert made.parts == [Part(6, "k", "f"), Part(7, "l", "g")]
    rest = msgspec.structs.replace(CANCELLED, released=4, amount=4)
    made.fold(rest, 8, -4)
    assert state(made) == ("cancelled", "failed", 13, 9, 4, 0, 8)
    assert len(made.parts) == 2


def test_the_part_that_takes_the_last_of_it_confirms(made):
    made.fold(PART, 6, -4)
    made.fold(msgspec.structs.replace(PART, captured=9, amount=9), 7, -9)
    assert state(made) == ("confirmed", None, 13, 13, 0, 0, 7)
    assert made.parts == [Part(6, "k", "f")]


def test_what_is_charged_above_the_hold_is_told_apart_from_it(made):
    made.fold(CHARGED, 6, -13)
    assert (made.captured, made.charged, made.released, made.status) == (13, 7, 0, "confirmed")


def test_a_deadline_moves_away_each_time_that_it_is_extended(made):
    made.fold(EXTENDED, 6, 0)
    made.fold(EXTENDED, 7, 0)
    assert (made.expires_at_ms, made.extensions) == (7000, 2)
    assert state(made) == ("pending", None, 13, 0, 0, 13, None)


def test_a_late_confirm_charges_what_had_expired(expired):
    expired.fold(LATE, 9, 0)
    assert state(expired) == ("confirmed", None, 13, 0, 13, 0, 9)
    assert (expired.late, expired.charged, expired.settled_at_ms, expired.model) == (True, 9, 1005, "m")


def test_a_reservation_ends_once():
    for first in (CONFIRMED, EXPIRED, CANCELLED):
        for second in (CONFIRMED, EXPIRED, CANCELLED, PART):
            reservation = Reservation.made_by(MADE, 5, 13)
            reservation.fold(first, 9, -13)
            with pytest.raises(Contradiction, match="ends reservation r"):
                reservation.fold(second, 10, -13)


def test_only_one_that_the_deadline_has_ended_is_confirmed_late_and_only_once(expired):
    for first in (None, CONFIRMED, CANCELLED):
        reservation = Reservation.made_by(MADE, 5, 13)
        if first is not None:
            reservation.fold(first, 9, -13)
        with pytest.raises(Contradiction, match=r"confirms reservation r .* late"):
            reservation.fold(LATE, 10, 0)
    expired.fold(LATE, 9, 0)
    with pytest.raises(Contradiction, match=r"confirms reservation r .confirmed. late"):
        expired.fold(LATE, 10, 0)


@pytest.mark.parametrize(
    ("changes", "held"),
    [
        ({"captured": 1}, 0),
        ({"released": 1}, 0),
        ({"amount": 8}, 0),
        ({"amount": -9, "charged": -9}, 0),
        ({}, -1),
        ({"kind": "cancelled"}, 0),
    ],
)
def test_a_late_confirm_that_takes_anything_else_is_a_contradiction(expired, changes, held):
    with pytest.raises(Contradiction, match=r"confirms reservation r .expired. late with"):
        expired.fold(msgspec.structs.replace(LATE, **changes), 9, held)


@pytest.mark.parametrize(
    ("of", "changes", "held", "why"),
    [
        (CONFIRMED, {"captured": 12}, -13, "with 12 captured, 2 released and -13 held"),
        (CONFIRMED, {"captured": 12}, -14, "ends reservation r"),
        (CONFIRMED, {"captured": -2, "released": 15, "amount": -2}, -13, "ends reservation r"),
        (CONFIRMED, {"charged": -1, "amount": 10}, -13, "ends reservation r"),
        (CONFIRMED, {"amount": 12}, -13, "is of 12 confirmed, with 11 captured, 0 charged and 2 released"),
        (CONFIRMED, {"account": "bo"}, -13, "is about a reservation of ana, not of bo"),
        (CANCELLED, {"amount": 12}, -13, "is of 12 cancelled, with 0 captured"),
        (CANCELLED, {"released": 2}, -2, "leaves 11 held"),
        (PART, {"captured": 14}, -14, "ends reservation r"),
        (PART, {"released": 1}, -5, "leaves 8 held"),
        (PART, {"charged": 1}, -4, "leaves 9 held"),
        (PART, {"kind": "expired"}, -4, "leaves 9 held"),
        (BOUND, {}, -1, "is bound and changes what is held by -1"),
        (EXTENDED, {"deadline_ms": 4999}, 0, "extends reservation r .pending, until 5000. to 4999"),
        (EXTENDED, {"deadline_ms": None}, 0, "extends reservation r .pending, until 5000. to 0"),
        (EXTENDED, {}, -1, "extends reservation r .* and changes what is held by -1"),
    ],
)
def test_what_does_not_add_up_is_a_contradiction(made, of, changes, held, why):
    with pytest.raises(Contradiction, match=why):
        made.fold(msgspec.structs.replace(of, **changes), 9, held)


def test_what_has_ended_is_not_extended(expired):
    with pytest.raises(Contradiction, match=r"extends reservation r .cancelled, until 5000."):
        expired.fold(EXTENDED, 9, 0)


@pytest.mark.parametrize(("changes", "held"), [({}, 12), ({"amount": 0}, 0), ({"deadline_ms": None}, 13)])
def test_a_reservation_holds_what_it_reserves(changes, held):
    with pytest.raises(Contradiction, match="reserves"):
        Reservation.made_by(msgspec.structs.replace(MADE, **changes), 5, held)


def test_one_whose_entries_are_lost_is_what_the_entry_in_their_place_says(made):
    stands = Stands(
        status="pending", reserved=13, captured=4, held=9, deadline_ms=9000, created_at_ms=1003,
        reserved_sequence=5, extensions=2, parts=[(6, "k", "f")],
    )  # fmt: skip
    lost = entry(
        "adjusted", 7, (0, 0), reservation="r", stands=stands, over_capture="cap", on_expired="charge"
    )
    its = Reservation.adopted_by(lost, made, -4)
    assert (its.extensions, its.expires_at_ms, its.parts) == (2, 9000, [Part(6, "k", "f")])
    assert (its.over_capture, its.on_expired, its.late) == ("cap", "charge", False)
    with pytest.raises(Contradiction, match="says that 9 are held, and changes what is held by -3"):
        Reservation.adopted_by(lost, made, -3)

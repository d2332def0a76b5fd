"""Entries add up only if each follows from what came before it (I3)."""

import msgspec
import pytest

from app.ledger.entries import Entry, Leg
from persistence.folding import Account, Contradiction, Reservation


def entry(
    kind: str, version: int, balance: tuple[int, int], *legs: tuple[str, int, int, int], **more
) -> Entry:
    return Entry(
        format=1, kind=kind, at_ms=1000 + version, account="ana", version=version,
        amount=more.pop("amount", 0), available=balance[0], held=balance[1],
        legs=[Leg(*leg) for leg in legs], incarnation=1, nonce="n", **more,
    )  # fmt: skip


@pytest.fixture
def ana() -> Account:
    account = Account("ana", 0, 1000, 1000)
    account.fold(entry("granted", 1, (100, 0), ("plan", 9000, 100, 0), bucket="plan", priority=10))
    account.fold(entry("granted", 2, (150, 0), ("default", 0, 50, 0), bucket="default"))
    return account


def lots(account: Account) -> list[tuple[object, ...]]:
    return [
        (lot.bucket, lot.expires_at_ms, lot.priority, lot.available, lot.held, lot.since)
        for lot in account.lots
    ]


def test_lots_stand_in_spending_order(ana):
    ana.fold(entry("granted", 3, (157, 0), ("plan", 8000, 7, 0), bucket="plan"))
    assert lots(ana) == [
        ("plan", 8000, 10, 7, 0, 3),
        ("plan", 9000, 10, 100, 0, 1),
        ("default", 0, 100, 50, 0, 2),
    ]


def test_a_priority_is_the_buckets_and_moves_all_its_lots(ana):
    ana.fold(entry("granted", 3, (157, 0), ("plan", 8000, 7, 0), bucket="plan", priority=300))
    assert [lot[:3] for lot in lots(ana)] == [("default", 0, 100), ("plan", 8000, 300), ("plan", 9000, 300)]


def test_the_last_row_of_a_bucket_stays_empty_and_without_expiry(ana):
    ana.fold(entry("deducted", 3, (50, 0), ("plan", 9000, -100, 0)))
    assert lots(ana) == [("plan", 0, 10, 0, 0, 1), ("default", 0, 100, 50, 0, 2)]
    ana.fold(entry("granted", 4, (55, 0), ("plan", 7000, 5, 0), bucket="plan"))
    assert lots(ana) == [("plan", 7000, 10, 5, 0, 4), ("default", 0, 100, 50, 0, 2)]


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (entry("deducted", 4, (149, 0), ("default", 0, -1, 0)), "is version 4 of ana, which is at version 2"),
        (entry("deducted", 2, (149, 0), ("default", 0, -1, 0)), "is version 2 of ana, which is at version 2"),
        (entry("deducted", 3, (148, 0), ("default", 0, -1, 0)), "says 148 available and 0 held in ana"),
        (entry("reserved", 3, (149, 0), ("default", 0, -1, 1)), "says 149 available and 0 held in ana"),
        (entry("deducted", 3, (99, 0), ("default", 0, -51, 0)), "takes more out of bucket default of ana"),
    ],
)
def test_an_entry_that_does_not_follow_is_a_contradiction(ana, wrong, why):
    with pytest.raises(Contradiction, match=why):
        ana.fold(wrong)


MADE = entry(
    "reserved", 3, (137, 13), ("plan", 9000, -13, 13), amount=13, reservation="r", deadline_ms=5000, task="t"
)
BOUND = entry("bound", 4, (137, 13), reservation="r", task="u", provider="fal")
CONFIRMED = entry(
    "confirmed",
    4,
    (139, 0),
    ("plan", 9000, 2, -13),
    reservation="r",
    captured=11,
    charged=0,
    released=2,
    model="m",
)
EXPIRED = entry("expired", 4, (150, 0), ("plan", 9000, 13, -13), reservation="r", released=13)
CANCELLED = entry(
    "cancelled", 4, (150, 0), ("plan", 9000, 13, -13), reservation="r", released=13, cause="failed"
)


def state(reservation: Reservation) -> tuple[object, ...]:
    each = reservation
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


def test_a_task_is_bound_at_once_or_later_and_binding_moves_nothing():
    reservation = Reservation.made_by(MADE, 5, 13)
    assert (reservation.task, reservation.provider, reservation.bound_seq) == ("t", None, 5)
    reservation.fold(BOUND, 6, 0)
    assert (reservation.task, reservation.provider, reservation.bound_seq) == ("u", "fal", 6)
    assert state(reservation) == ("pending", None, 13, 0, 0, 13, None)


def test_a_reservation_ends_once():
    for first in (CONFIRMED, EXPIRED, CANCELLED):
        for second in (CONFIRMED, EXPIRED, CANCELLED):
            reservation = Reservation.made_by(MADE, 5, 13)
            reservation.fold(first, 9, -13)
            with pytest.raises(Contradiction, match="ends reservation r"):
                reservation.fold(second, 10, -13)


@pytest.mark.parametrize(
    ("changes", "held", "why"),
    [
        ({"captured": 12}, -13, "with 12 captured, 2 released and -13 held"),
        ({"captured": 12}, -14, "ends reservation r"),
        ({"account": "bo"}, -13, "is about a reservation of ana, not of bo"),
        ({"kind": "cancelled", "captured": 0}, -2, "leaves 11 held"),
    ],
)
def test_an_ending_that_does_not_add_up_is_a_contradiction(changes, held, why):
    reservation = Reservation.made_by(MADE, 5, 13)
    with pytest.raises(Contradiction, match=why):
        reservation.fold(msgspec.structs.replace(CONFIRMED, **changes), 9, held)


@pytest.mark.parametrize(("changes", "held"), [({}, 12), ({"amount": 0}, 0), ({"deadline_ms": None}, 13)])
def test_a_reservation_holds_what_it_reserves(changes, held):
    with pytest.raises(Contradiction, match="reserves"):
        Reservation.made_by(msgspec.structs.replace(MADE, **changes), 5, held)

"""Entries add up to accounts only if each follows from what came before it (I2, I3)."""

import pytest

from persistence.folding import LOTS_MAX, Account, Contradiction
from tests.unit.folding.by_hand import entry


@pytest.fixture
def ana() -> Account:
    account = Account("ana", 0, 1000, 1000)
    account.fold(entry("granted", 1, (100, 0), ("plan", 9000, 100, 0), bucket="plan", priority=10))
    account.fold(entry("granted", 2, (150, 0), ("default", 0, 50, 0), bucket="default"))
    return account


@pytest.fixture
def owing(ana) -> Account:
    """Ana with 30 of the 100 that she may owe."""
    ana.fold(entry("configured", 3, (150, 0), overdraft_limit=100))
    legs = ("plan", 9000, -100, 0), ("default", 0, -50, 0), ("overdraft", 0, -30, 0)
    ana.fold(entry("deducted", 4, (-30, 0), *legs))
    return ana


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


def test_leftovers_move_along_to_the_new_lot_in_the_entry_of_the_grant(ana):
    legs = ("plan", 9000, -40, 0), ("plan", 19000, 60, 0)
    ana.fold(entry("granted", 3, (170, 0), *legs, bucket="plan", rollover=40))
    assert lots(ana) == [
        ("plan", 9000, 10, 60, 0, 1),
        ("plan", 19000, 10, 60, 0, 3),
        ("default", 0, 100, 50, 0, 2),
    ]


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (entry("deducted", 4, (149, 0), ("default", 0, -1, 0)), "is version 4 of ana, which is at version 2"),
        (entry("deducted", 2, (149, 0), ("default", 0, -1, 0)), "is version 2 of ana, which is at version 2"),
        (entry("deducted", 3, (148, 0), ("default", 0, -1, 0)), "says 148 available and 0 held in ana"),
        (entry("reserved", 3, (149, 0), ("default", 0, -1, 1)), "says 149 available and 0 held in ana"),
        (entry("deducted", 3, (99, 0), ("default", 0, -51, 0)), "takes more out of bucket default of ana"),
        (entry("deducted", 3, (149, 0), ("default", 0, -1, 0), amount=2), "is of 2 deducted, and its legs"),
        (entry("granted", 3, (151, 0), ("default", 0, 1, 0), amount=-1), "is of -1 granted, and its legs"),
        (entry("refunded", 3, (151, 0), ("default", 0, 1, 0), amount=9), "is of 9 refunded, and its legs"),
        (entry("adjusted", 3, (149, 0), ("default", 0, -1, 0), amount=1), "is of 1 adjusted, and its legs"),
        (entry("extended", 3, (149, 0), ("default", 0, -1, 0), amount=0), "is of 0 extended, and its legs"),
        (entry("bound", 3, (150, 0), amount=7), "is of 7 bound, and its legs move 0"),
    ],
)
def test_an_entry_that_does_not_follow_is_a_contradiction(ana, wrong, why):
    with pytest.raises(Contradiction, match=why):
        ana.fold(wrong)


def test_debt_is_a_lot_behind_all_others_and_below_zero(owing):
    assert owing.available == -30
    assert lots(owing) == [
        ("plan", 0, 10, 0, 0, 1),
        ("default", 0, 100, 0, 0, 2),
        ("overdraft", 0, 1_000_001, -30, 0, 4),
    ]
    owing.fold(entry("deducted", 5, (-42, 0), ("overdraft", 0, -12, 0)))
    assert lots(owing)[-1] == ("overdraft", 0, 1_000_001, -42, 0, 4)


def test_debt_that_is_repaid_leaves_no_row_and_what_is_left_over_its_lot(owing):
    owing.fold(entry("granted", 5, (-10, 0), ("overdraft", 0, 20, 0), bucket="plan"))
    assert lots(owing)[-1] == ("overdraft", 0, 1_000_001, -10, 0, 4)
    owing.fold(entry("granted", 6, (5, 0), ("plan", 0, 5, 0), ("overdraft", 0, 10, 0), bucket="plan"))
    assert lots(owing) == [("plan", 0, 10, 5, 0, 6), ("default", 0, 100, 0, 0, 2)]


def test_debt_is_none_of_the_lots_that_an_account_may_have(owing):
    """Empty rows make room for the 64th lot, oldest first; debt needs no room."""
    owing.fold(entry("configured", 5, (-30, 0), overdraft_limit=10**6))
    version, available = 5, -30
    owing.fold(entry("granted", 6, (0, 0), ("overdraft", 0, 30, 0), bucket="b"))
    for number in range(LOTS_MAX):
        version, available = 7 + number, available + 1
        owing.fold(entry("granted", version, (number + 1, 0), (f"b{number}", 0, 1, 0), bucket=f"b{number}"))
    assert [lot[0] for lot in lots(owing)] == [f"b{number}" for number in range(LOTS_MAX)]
    legs = [(f"b{number}", 0, -1, 0) for number in range(LOTS_MAX)]
    owing.fold(entry("deducted", version + 1, (-1, 0), *legs, ("overdraft", 0, -1, 0)))
    assert len(owing.lots) == LOTS_MAX + 1


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (
            entry("deducted", 5, (-101, 0), ("overdraft", 0, -71, 0)),
            "leaves -101 available in ana",
        ),
        (entry("granted", 5, (1, 0), ("overdraft", 0, 31, 0)), "the debt of ana is 1 available"),
        (entry("reserved", 5, (-31, 1), ("overdraft", 0, -1, 1)), "the debt of ana is -31 available"),
        (
            entry("deducted", 5, (-31, 0), ("overdraft", 9, -1, 0)),
            "the debt of ana is -1 available",
        ),
        (entry("deducted", 5, (-31, 0), ("default", 0, -1, 0)), "takes more out of bucket default of ana"),
        (
            entry("configured", 5, (-30, 0), overdraft_limit=29),
            "available in ana, which may owe 29",
        ),
    ],
)
def test_more_debt_than_is_allowed_and_debt_that_is_none_are_contradictions(owing, wrong, why):
    with pytest.raises(Contradiction, match=why):
        owing.fold(wrong)


def test_an_account_may_owe_exactly_its_limit(owing):
    owing.fold(entry("deducted", 5, (-100, 0), ("overdraft", 0, -70, 0)))
    owing.fold(entry("granted", 6, (-40, 0), ("overdraft", 0, 60, 0)))
    owing.fold(entry("configured", 7, (-40, 0), overdraft_limit=40))
    assert (owing.available, owing.overdraft_limit) == (-40, 40)


def test_settings_are_those_that_were_named_last(ana):
    assert ana.settings == (0, "active", 0)
    ana.fold(entry("configured", 3, (150, 0), overdraft_limit=7, low_balance=20))
    ana.fold(entry("configured", 4, (150, 0), status="frozen"))
    assert ana.settings == (7, "frozen", 20)
    ana.fold(entry("configured", 5, (150, 0), overdraft_limit=0, status="active"))
    assert ana.settings == (0, "active", 20)


def test_an_operators_adjustment_moves_credits_and_no_settings(ana):
    ana.fold(entry("adjusted", 3, (145, 0), ("plan", 9000, -5, 0), status="closed", overdraft_limit=3))
    assert (ana.available, ana.settings) == (145, (0, "active", 0))


def test_an_entry_in_a_lost_place_stands_for_others_too(ana):
    """Its amount is of all that was lost of the account, and it says what the settings are."""
    legs = ("plan", 9000, -30, 0), ("overdraft", 0, -5, 0)
    ana.fold(
        entry("adjusted", 3, (115, 0), *legs, amount=-99, adopted=(3, 8), status="frozen", overdraft_limit=9)
    )
    assert (ana.available, ana.settings) == (115, (9, "frozen", 0))

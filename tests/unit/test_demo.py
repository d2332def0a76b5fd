"""What `lastro demo` sells, how it measures, and that its check would notice."""

import math
from collections.abc import Iterable
from random import Random

import pytest
from rich.console import Console

from app.demo.account import Account, Sums
from app.demo.answers import Balance, Leg, Transaction
from app.demo.api import Api
from app.demo.board import Board
from app.demo.catalogue import CATALOGUE, Order, order
from app.demo.journal import Journal
from app.demo.tally import End, Tally
from app.demo.traffic import Latencies, Traffic

HOLD = "01a1ffb5-dfe6-7003-8ff3-735075a1551e"


def test_a_video_costs_a_credit_for_every_begun_second_and_one_more():
    (video,) = (each for each in CATALOGUE if each.lengths)
    assert [51, 13, 9, 2] == [Order(video, tenths).credits for tenths in (500, 120, 74, 1)]
    assert {"seconds": "7.4"} == Order(video, 74).metadata


def test_every_order_can_be_paid_with_whole_credits():
    rng = Random(1)
    assert all(order(rng).credits >= 1 for _ in range(1000))


def test_a_latency_is_told_within_5_percent():
    latencies = Latencies()
    for milliseconds in range(1, 1001):
        latencies.add(milliseconds / 1000)
    assert math.isclose(500, latencies.milliseconds(0.5), rel_tol=0.05)
    assert math.isclose(990, latencies.milliseconds(0.99), rel_tol=0.05)
    assert 0 == Latencies().milliseconds(0.99)


def test_silence_is_when_somebody_asks_and_nobody_answers():
    traffic = Traffic()
    assert 0 == traffic.silence(5.0)
    traffic.sent(5.0)
    assert 2 == traffic.silence(7.0)
    traffic.answered(2.5, 7.5)
    assert 0 == traffic.silence(20.0)
    traffic.sent(20.0)
    traffic.in_vain("no connection")
    assert 3 == traffic.silence(23.0)
    traffic.sent(24.0)
    traffic.cut_off()
    assert 5 == traffic.silence(25.0)
    traffic.sent(26.0)
    traffic.answered(0.1, 26.1)
    assert 0 == traffic.silence(30.0)


def entry(version: int, kind: str, amount: int, available: int, held: int, hold: str | None = None):
    return Transaction(
        f"0-1-{version}", kind, amount, "2026-01-01T00:00:00.000Z", version, [Leg(available, held)], hold
    )


GRANTED = entry(1, "granted", 100, 100, 0)
RESERVED = entry(2, "reserved", 51, -51, 51, HOLD)
CONFIRMED = entry(3, "confirmed", 40, 11, -51, HOLD)
LAPSED = entry(4, "lapsed", 10, -10, 0)
ALL = [GRANTED, RESERVED, CONFIRMED, LAPSED]
AFTER = Balance(4, 50, 0)


def differences(
    journal: Iterable[Transaction], balance: Balance = AFTER, told: Iterable[Transaction] = ALL[:3]
) -> str:
    book, read = Sums(), Journal("ana")
    for each in told:
        book.add(each)
    for each in sorted(journal, key=lambda each: -each.version):
        read.add(each)
    return "\n".join(read.differences(balance, book))


def test_books_that_agree_have_no_differences():
    assert not differences(ALL)
    assert not differences(ALL[:2], Balance(2, 49, 51), told=ALL[:2])


TWICE = entry(5, "confirmed", 51, 0, -51, HOLD)


@pytest.mark.parametrize(
    ("said", "journal", "balance", "told"),
    [
        ("add up to 50 available and 0 held, its balance says 40 and 0", ALL, Balance(4, 40, 0), ALL[:3]),
        ("ana: +10 credits: 100 granted against 40 available + 0 held", ALL, Balance(4, 40, 0), ALL[:3]),
        ("open reservations hold 0, its balance says 5 held", ALL, Balance(4, 45, 5), ALL[:3]),
        ("+40 credits confirmed: the journal has 40 in 1", ALL, AFTER, ALL[:2]),
        ("-40 credits confirmed: the journal has 0 in 0", [GRANTED, RESERVED], Balance(2, 49, 51), ALL[:3]),
        (f"reservation {HOLD} ended 2 times: confirmed and confirmed", [*ALL, TWICE], AFTER, ALL[:3]),
        ("go back to version 1 with 1 gaps", [GRANTED, CONFIRMED, LAPSED], AFTER, ALL[:3]),
        ("go back to version 2 with 0 gaps", ALL[1:], AFTER, ALL[:3]),
        ("of 0 ended with 40 credits", [GRANTED, CONFIRMED, LAPSED], AFTER, ALL[:3]),
        (
            "are not those that the answers named",
            ALL,
            AFTER,
            [Transaction("9-1-1", "granted", 100, GRANTED.at, 1, []), *ALL[1:3]],
        ),
    ],
)
def test_a_difference_is_named_with_its_account_and_its_credits(said, journal, balance, told):
    found = differences(journal, balance, told)
    assert said in found
    assert all(line.startswith("ana: ") for line in found.splitlines())


async def test_the_board_fits_a_narrow_terminal_and_every_number_is_on_it():
    traffic, tally = Traffic(), Tally()
    account = Account("demo-1", Api("http://127.0.0.1:1", "lk_", traffic, Random(1)))
    account.told.credits.update(granted=9_000_000, confirmed=1_234_567)
    account.balance = Balance(1, 7_000_000, 65_433)
    account.lapsed = 700_000
    tally.started = 1_000_000
    tally.ended.update({End.SUCCEEDED: 765_432, End.EXPIRED: 4_321})
    traffic.refusals.update({"402 insufficient_credits": 4711, "409 reservation_confirmed": 12})
    traffic.sent(0.0)
    traffic.in_vain("503 ledger_unavailable")
    board = Board("a shop", [account], tally, traffic)
    board.stage = "open, 6 of 20 s"
    console = Console(width=80, force_terminal=False)
    with console.capture() as captured:
        console.print(board.table(10.0))
    shown = captured.get()
    assert max(map(len, shown.splitlines())) <= 80
    for text in (
        "1,000,000 started", "765,432 succeeded", "4,321 expired", "230,247 running", "9,000,000 granted",
        "7,000,000 available", "65,433 held", "1,234,567 spent", "700,000 lapsed",
        "4,711 402 insufficient_credits", "1 503 ledger_unavailable",
        "no answer for 10 s (503 ledger_unavailable)",
    ):  # fmt: skip
        assert text in shown
        assert text.split(" ", 1)[0] in board.line(10.0) or "402" in text

"""What `lastro top` shows of what it was told, and keeps while nothing is told."""

from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from app.top import asking
from app.top.asking import Check, Everything, Health, Look
from app.top.board import Board, sparkline

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
FENCE = Check("fence", "critical", "Shard 3 refuses.")
CLEANUP = Check("cleanup", "warning", "It is stopped.")
POSTGRES = Check("postgres", "healthy", "It answers.")


def told(transactions: int = 0, seconds: float = 0, *checks: Check) -> Look:
    """What a ledger says that has made so many transactions by so many seconds past noon."""
    status = "critical" if FENCE in checks else "warning" if checks else "healthy"
    health = Health(status, [CLEANUP, POSTGRES, *checks] if checks else [POSTGRES])
    overview = asking.Overview(
        as_of=NOON + timedelta(seconds=seconds),
        accounts=asking.Accounts(2, 1),
        available=1_899,
        held=41,
        liability=1_940,
        reservations=asking.Reservations(1, 2, 3, 4),
        transactions={"granted": asking.Moved(transactions)},
    )
    usage = asking.Usage("hour", [asking.Step(0, 0), asking.Step(20, 10)], asking.Step(20, 0))
    everything = Everything(
        0.8, overview, health, usage, asking.TopUsers([asking.User("ana", 30)]), asking.Models([])
    )
    return Look(health, everything)


def shown(board: Board) -> str:
    console = Console(width=100, highlight=False)
    with console.capture() as capture:
        console.print(board.blocks("12:00:09"))
    return capture.get()


def test_the_rate_is_that_between_the_last_two_moments_that_were_told_of():
    board = Board("http://here")
    board.take(told(100, 0))
    assert board.rate is None
    assert "rate not known yet" in shown(board)
    board.take(told(340, 2))
    assert 120 == board.rate
    board.take(told(340, 2))  # nothing new was told
    assert 120 == board.rate
    board.take(told(340, 4))
    assert 0 == board.rate


def test_what_needs_attention_is_told_the_worst_first_with_what_is_wrong():
    board = Board("http://here")
    board.take(told(1, 1, FENCE))
    text = shown(board)
    assert text.index("Shard 3 refuses.") < text.index("It is stopped.")
    assert "It answers." not in text
    assert "CRITICAL" in text
    assert board.line("12:00:09").endswith("attention: fence, cleanup")
    board.take(told(1, 2))
    assert "nothing needs attention" in shown(board)


def test_while_nothing_is_told_the_numbers_stay_and_how_it_is_nobody_knows():
    board = Board("http://here")
    board.miss("no answer: refused")
    assert "UNKNOWN" in shown(board)
    board.take(told(1, 1, FENCE))
    board.miss("no answer: refused")
    text = shown(board)
    for there in ("no answer: refused", "1,899 available", "as of 12:00:01 UTC", "UNKNOWN"):
        assert there in text
    assert "Shard 3" not in text
    assert "unknown" in board.line("12:00:09")
    board.take(Look(Health("critical", [FENCE]), None, "503: PostgreSQL is away"))
    assert "Shard 3" in shown(board)
    assert "503: PostgreSQL is away" in shown(board)


@pytest.mark.parametrize(
    ("values", "bars"), [([], ""), ([0, 0], "▁▁"), ([0, 7, 14], "▁▄█"), ([-5, 1], "▁█"), ([2**53] * 2, "██")]
)
def test_bars_are_as_high_as_the_highest(values, bars):
    assert bars == sparkline(values)


def test_a_terminal_with_few_signs_gets_those():
    board = Board("http://here", plain=True)
    board.take(told(1, 1))
    assert "_#  30 in 2 hours, +50% to before" in shown(board)
    assert shown(board).isascii()

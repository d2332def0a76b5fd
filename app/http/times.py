"""Milliseconds inside, RFC 3339 outside: any offset is read, answers are UTC with milliseconds."""

import time
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from app.ledger.admission import CLOCKS_APART_MS_MAX

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


@lru_cache(8192)
def _second(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).isoformat()[:19]


@lru_cache(8192)
def iso(at_ms: int) -> str:
    """`2026-11-21T19:00:00.000Z`. Args: milliseconds since 1970, up to the end of the year 9999."""
    seconds, rest = divmod(at_ms, 1000)
    return f"{_second(seconds)}.{rest:03d}Z"


def moment(at_ms: int) -> datetime:
    """The same as `milliseconds`, the other way round."""
    return _EPOCH + timedelta(milliseconds=at_ms)


def present(ledger_ms: int) -> datetime:
    """Now by Redis' clock, as far as the ledger knows it; before it does, by this machine's. A Redis that is
    ten minutes apart from it is not served.
    """
    here_ms = time.time_ns() // 1_000_000
    return moment(ledger_ms if abs(ledger_ms - here_ms) <= CLOCKS_APART_MS_MAX else here_ms)


def next_millisecond(at: datetime) -> datetime:
    """The moment itself where it is a whole millisecond, as those of entries are; else the next one.

    Raises:
        OverflowError: That is after the year 9999.
    """
    return _EPOCH - (_EPOCH - at) // _MILLISECOND * _MILLISECOND


def milliseconds(at: datetime) -> int:
    """Milliseconds since 1970, rounded down; negative before."""
    return (at - _EPOCH) // _MILLISECOND

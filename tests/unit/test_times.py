"""Times between Redis, this machine and whoever asks."""

import time
from datetime import UTC, datetime, timedelta

import pytest

from app.http.times import iso, milliseconds, moment, next_millisecond, present

NOON = datetime(2026, 11, 21, 12, 0, 0, 345_000, tzinfo=UTC)


def here_ms():
    return time.time_ns() // 1_000_000


def test_milliseconds_come_back_as_the_moment_that_they_were():
    for at in (NOON, datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)):
        assert at == moment(milliseconds(at))
    assert "2026-11-21T12:00:00.345Z" == iso(milliseconds(NOON))


@pytest.mark.parametrize(("microseconds", "later"), [(0, 0), (1, 1), (999, 1), (1000, 1), (1001, 2)])
def test_a_moment_between_two_milliseconds_is_the_later_one(microseconds, later):
    assert NOON + timedelta(milliseconds=later) == next_millisecond(
        NOON + timedelta(microseconds=microseconds)
    )


def test_there_is_no_millisecond_after_the_last_one():
    with pytest.raises(OverflowError):
        next_millisecond(datetime.max.replace(tzinfo=UTC))


def test_now_is_what_redis_says_and_this_machine_where_it_has_not_said_it():
    for apart_ms in (-500_000, 0, 500_000):
        assert apart_ms == pytest.approx(milliseconds(present(here_ms() + apart_ms)) - here_ms(), abs=2000)
    for unknown_ms in (0, 27_000_000, here_ms() - 700_000, here_ms() + 700_000):
        assert 0 == pytest.approx(milliseconds(present(unknown_ms)) - here_ms(), abs=2000)

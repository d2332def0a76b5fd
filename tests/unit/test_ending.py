"""What ends a command in order, whatever it is in the middle of."""

import asyncio
import signal
from contextlib import suppress

import pytest

from app.cli.ending import ended_in_order

NUMBERS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.fixture(autouse=True)
def in_a_terminal():
    """Whoever runs these tests may be under nohup, where SIGHUP means nothing."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def tell(number: signal.Signals = signal.SIGTERM) -> None:
    signal.raise_signal(number)


async def wait() -> None:
    """For long; not for ever, so that a test fails where nothing cancels it."""
    await asyncio.sleep(20)


@pytest.mark.parametrize("number", NUMBERS)
def test_it_ends_after_everything_was_tidied_up_as_a_shell_would_have_it(number):
    done = []

    def command():
        with ended_in_order():
            tell(number)
            tell(signal.SIGTERM)
            done.append("the rest")

    with pytest.raises(SystemExit) as end:
        command()
    assert (128 + number, ["the rest"]) == (end.value.code, done)


def test_what_waits_is_cancelled_and_tidies_up():
    done = []

    async def work():
        try:
            tell()
            await wait()
            done.append("waited")
        finally:
            done.append("tidied up")

    with pytest.raises(SystemExit) as end, ended_in_order() as ending:
        ending.run(work())
    assert (128 + signal.SIGTERM, ["tidied up"]) == (end.value.code, done)


def test_what_swallows_its_cancellation_is_cancelled_again():
    done = []

    async def work():
        tell()
        with suppress(asyncio.CancelledError):
            await wait()
        await wait()
        done.append("waited")

    with pytest.raises(SystemExit), ended_in_order() as ending:
        ending.run(work())
    assert [] == done


def test_what_never_waits_is_cancelled_where_it_asks():
    done = []

    async def work():
        ending.give_up()
        tell()
        ending.give_up()
        done.append("went on")

    with pytest.raises(SystemExit), ended_in_order() as ending:
        ending.run(work())
    assert [] == done


def test_what_is_through_when_the_signal_comes_ends_by_it_all_the_same():
    async def work():
        tell()

    with pytest.raises(SystemExit), ended_in_order() as ending:
        ending.run(work())


def test_what_nobody_ends_says_what_came_of_it_and_fails_as_it_fails():
    async def work(divisor):
        return 6 / divisor

    with ended_in_order() as ending:
        assert 3 == ending.run(work(2))
        with pytest.raises(ZeroDivisionError):
            ending.run(work(0))


def test_signals_mean_afterwards_what_they_meant_before():
    before = [signal.getsignal(each) for each in NUMBERS]
    with ended_in_order():
        assert all(signal.getsignal(each) not in before for each in NUMBERS)
    assert before == [signal.getsignal(each) for each in NUMBERS]


def test_a_hangup_that_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ended_in_order():
            tell(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)

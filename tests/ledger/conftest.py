"""A ledger on fakeredis at a set time, with a journal that the test holds in its hand."""

from collections.abc import AsyncIterator

import pytest

from app.ledger.ledger import Ledger
from app.ledger.operations import Grant
from tests.engine import Clock, script_with_clock
from tests.ledger.journal import Journal


@pytest.fixture
async def journal(fake_redis) -> Journal:
    journal = Journal(fake_redis, 4)
    await journal.found()
    return journal


@pytest.fixture
async def clock(fake_redis) -> Clock:
    return Clock(fake_redis)


@pytest.fixture
async def ledger(fake_redis, journal, clock) -> AsyncIterator[Ledger]:
    """With 100 credits for ana and 7 for bia."""
    await clock.advance(0)
    ledger = Ledger(fake_redis, journal, None, script_with_clock())
    await ledger.start()
    await ledger.grant(Grant(account="ana", amount=100))
    await ledger.grant(Grant(account="bia", amount=7))
    journal.asked.clear()
    yield ledger
    await ledger.stop()

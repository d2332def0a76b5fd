"""Ids of reservations say when they were made, and sort by it."""

from app.ledger.clock import time_ms
from app.ledger.lasting import made_at_ms
from app.ledger.ledger import Ledger


async def test_the_first_id_of_a_process_is_of_redis_time(fake_redis, journal, clock):
    await clock.advance(0)
    ledger = Ledger(fake_redis, journal, None)
    await ledger.start()
    made = made_at_ms(await ledger.new_reservation_id("ana"))
    now = await time_ms(fake_redis)
    await ledger.stop()
    assert made is not None
    assert now - 60_000 <= made <= now

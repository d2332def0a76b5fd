"""Ids of reservations say when they were made, and sort by it: by Redis' time, which never goes back."""

import asyncio

from app.ledger.clock import Clock, time_ms
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


async def test_an_answer_that_was_on_its_way_for_long_does_not_turn_time_back():
    """Two ask at once; the process stands still before the second answer is taken in."""
    slow, told = asyncio.Event(), iter([1_000, 50_000])

    class Server:
        async def time(self):
            second = next(told)
            if second == 1_000:
                await slow.wait()
            return second, 0

    clock = Clock(Server())
    late = asyncio.create_task(clock.know())
    await asyncio.sleep(0)
    await clock.know()
    slow.set()
    await late
    assert clock.now_ms() >= 50_000_000

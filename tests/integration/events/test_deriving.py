"""Events of the journal: all that must be told, in order, once, whoever dies meanwhile."""

import asyncio
import random

import msgspec
import pytest

from app.ledger.entries import seal
from app.ledger.operations import Configure, Confirm, Deduct, Grant, Reserve
from app.ledger.shards import new_reservation_id
from persistence.events.delivering import now
from persistence.events.deriving import derive
from persistence.session import connect
from tests.integration.backup.books import tamper
from tests.integration.books import Shop
from tests.integration.events.told import entries, must_be_told, were_told
from tests.integration.journal.workers import SHARDS
from tests.integration.ledgers import journal_all

EVERYTHING: list[str] = []


async def derive_all(database, entries_max: int = 1000) -> int:
    """Until there is nothing more. Returns how many entries were looked at."""
    total = 0
    async with database.acquire() as connection:
        while made := await derive(connection, now(), entries_max=entries_max):
            total += made
    return total


async def assert_told(database, redis) -> int:
    """Demand that what was told is what must be. Returns how many it were."""
    total = 0
    for shard in range(SHARDS):
        wanted = must_be_told(shard, await entries(redis, shard))
        assert wanted == await were_told(database, shard)
        total += len(wanted)
    return total


class Swings:
    """A caller whose accounts swing around thresholds."""

    def __init__(self, caller, seed: int) -> None:
        self._caller = caller
        self._random = random.Random(seed)

    async def trade(self, calls: int) -> None:
        choose = self._random.choice
        for _ in range(calls):
            operations = []
            for _ in range(choose([1, 3, 10])):
                shard = self._random.randrange(SHARDS)
                of = {"shard": shard, "account": f"swing-{shard}-{choose('ab')}"}
                operations.append(
                    choose([
                        Grant(**of, amount=choose([1, 5, 9, 40]), open=True),
                        Deduct(**of, amount=choose([1, 5, 10, 30])),
                        Deduct(**of, amount=choose([1, 5, 10, 30])),
                        Configure(
                            **of, open=True, low_balance=choose([None, 0, 10, 30, 40]),
                            overdraft_limit=choose([None, 0, 50]),
                        ),
                    ])
                )  # fmt: skip
            reply = await self._caller.call(operations)
            assert "ok" == reply.status


@pytest.mark.parametrize("seed", range(3))
async def test_what_is_told_of_a_random_history_is_what_adding_it_up_by_hand_tells(
    database, database_url, redis, redis_url, caller, managed, seed
):
    await managed.create("http://127.0.0.1:9/", EVERYTHING, "key:test")
    shop, swings, chance = Shop(caller, SHARDS, seed), Swings(caller, seed), random.Random(seed)
    for _ in range(4):
        await shop.trade(calls=12)
        await swings.trade(calls=25)
        await journal_all(database_url, redis_url)
        await derive_all(database, chance.choice([1, 7, 40, 1000]))
    assert await assert_told(database, redis) > 20
    kinds = {row[0] for row in await database.fetch("SELECT DISTINCT type FROM events")}
    assert {"balance.low", "balance.depleted"} <= kinds
    assert kinds & {"reservation.confirmed", "reservation.cancelled", "reservation.expired"}


async def test_makers_of_events_that_die_at_any_moment_tell_nothing_twice_and_leave_nothing_out(
    database, database_url, redis, redis_url, caller, managed
):
    await managed.create("http://127.0.0.1:9/", EVERYTHING, "key:test")
    await Shop(caller, SHARDS, seed=4).trade(calls=40)
    await Swings(caller, seed=4).trade(calls=60)
    await journal_all(database_url, redis_url)
    chance, deaths, seconds_max = random.Random(4), 0, 0.01

    async def maker() -> None:
        nonlocal deaths
        connection = await connect(database_url)
        try:
            async with asyncio.timeout(chance.uniform(0.001, seconds_max)):
                while await derive(connection, now(), entries_max=20):
                    pass
        except TimeoutError:
            deaths += 1
        finally:
            connection.terminate()

    left = "SELECT sum(cursor - seq) FROM shards JOIN event_cursors USING (shard)"
    while await database.fetchval(left):
        await asyncio.gather(*(maker() for _ in range(3)))
        seconds_max *= 1.5  # however slow the machine is, some come to an end
    assert deaths > 3
    await assert_told(database, redis)


async def test_nothing_is_read_or_kept_while_nobody_listens_and_the_first_who_does_begins_at_the_end(
    database, database_url, redis, redis_url, caller, managed
):
    await Swings(caller, seed=1).trade(calls=20)
    await journal_all(database_url, redis_url)
    assert 0 == await derive_all(database)
    assert 0 == await database.fetchval("SELECT count(*) FROM event_cursors")
    listener, _ = await managed.create("http://127.0.0.1:9/", ["balance.low"], "key:test")
    assert 0 == await derive_all(database)
    await managed.change(listener.id, url=None, types=None, enabled=False)
    await Swings(caller, seed=2).trade(calls=20)
    await journal_all(database_url, redis_url)
    assert 0 == await derive_all(database)
    await managed.change(listener.id, url=None, types=None, enabled=True)
    assert 0 == await derive_all(database)
    assert 0 == await database.fetchval("SELECT count(*) FROM events")


async def test_who_begins_to_listen_hears_of_the_next_fall_and_not_of_what_lies_low_already(
    database, database_url, redis_url, caller, managed
):
    of = {"shard": 0, "account": "ana"}
    first, _ = await managed.create("http://127.0.0.1:9/", ["balance.low"], "key:test")

    async def then(*operations) -> int:
        """How many were told by now."""
        assert "ok" == (await caller.call(operations)).status
        await journal_all(database_url, redis_url)
        await derive_all(database)
        return await database.fetchval("SELECT count(*) FROM events")

    assert 0 == await then(Grant(**of, amount=50, open=True), Configure(**of, low_balance=10, open=True))
    assert 1 == await then(Deduct(**of, amount=45))
    assert 1 == await then(Grant(**of, amount=5))  # 10 of 10: not low any more, and not risen to 11
    await managed.remove(first.id)
    assert 1 == await then(Grant(**of, amount=40))  # nobody listens
    second, _ = await managed.create("http://127.0.0.1:9/", ["balance.low"], "key:test")
    assert 2 == await then(Deduct(**of, amount=45))
    await managed.remove(second.id)
    await managed.create("http://127.0.0.1:9/", ["balance.low"], "key:test")
    assert 2 == await then(Deduct(**of, amount=1))
    assert 3 == await then(Grant(**of, amount=7), Deduct(**of, amount=7))  # 11, and 4 again


async def test_who_was_quiet_for_months_is_told_of_the_next_fall(
    database, database_url, redis_url, caller, managed
):
    """What an account had before is in its last entry, however long ago that was written."""
    of = {"shard": 0, "account": "ana"}
    await managed.create("http://127.0.0.1:9/", ["balance.depleted"], "key:test")
    assert "ok" == (await caller.call([Grant(**of, amount=50, open=True)])).status
    await journal_all(database_url, redis_url)
    await derive_all(database)
    async with database.acquire() as connection:
        await connection.execute("SELECT make_journal_months(ARRAY[now() - interval '200 days'])")
        await tamper(connection, "UPDATE journal SET at = at - interval '200 days'")
    assert "ok" == (await caller.call([Deduct(**of, amount=50)])).status
    await journal_all(database_url, redis_url)
    await derive_all(database)
    assert 1 == await database.fetchval("SELECT count(*) FROM events WHERE type = 'balance.depleted'")


async def test_a_change_of_the_threshold_counts_as_a_fall_below_it(
    database, database_url, redis_url, caller, managed
):
    of = {"shard": 1, "account": "ben"}
    await managed.create("http://127.0.0.1:9/", ["balance.low"], "key:test")
    await caller.call([Grant(**of, amount=50, open=True)])
    await caller.call([Configure(**of, low_balance=60, open=True)])
    await caller.call([Configure(**of, low_balance=70, open=True)])
    await journal_all(database_url, redis_url)
    await derive_all(database, entries_max=1)
    (body,) = await database.fetchrow("SELECT body FROM events")
    told = msgspec.json.decode(body)
    assert {"accountId": "ben", "available": 50, "held": 0, "lowBalance": 60, "version": 2} == {
        name: told["data"][name] for name in ("accountId", "available", "held", "lowBalance", "version")
    }


async def test_the_end_of_a_reservation_says_what_a_shop_needs(
    database, database_url, redis, redis_url, caller, managed
):
    await managed.create("http://127.0.0.1:9/", ["reservation.confirmed"], "key:test")
    reservation = new_reservation_id(2, 1_700_000_000_000)
    sealed = seal(resource="image-1")
    await caller.call([
        Grant(shard=2, account="eve", amount=100, open=True),
        Reserve(
            shard=2, account="eve", reservation=reservation, amount=40, model="video", resource="image-1",
            notes=sealed.text, notes_hash=sealed.hash,
        ),
        Confirm(shard=2, reservation=reservation, amount=10, final=False, key="k", fingerprint="f"),
    ])  # fmt: skip
    await caller.call([Confirm(shard=2, reservation=reservation, amount=5)])
    await journal_all(database_url, redis_url)
    await derive_all(database)
    rows = await database.fetch("SELECT body, at FROM events")
    assert 1 == len(rows)
    told = msgspec.json.decode(rows[0]["body"])
    at_ms = (await entries(redis, 2))[-1][1].at_ms
    assert ("reservation.confirmed", at_ms) == (told["type"], rows[0]["at"].timestamp() * 1000)
    assert {
        "accountId": "eve", "reservationId": reservation, "transactionId": "2-1-4", "reserved": 40,
        "spent": 15, "released": 25, "resourceId": "image-1", "modelId": "video", "available": 85, "held": 0,
        "version": 4,
    } == told["data"]  # fmt: skip

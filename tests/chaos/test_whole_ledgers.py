"""One misfortune each, befalling a whole ledger under load: real servers and processes, a town of customers.

What a storm does in passing is looked at closely here; and what no storm may do (lose data, poison a stream,
name the wrong server) is done to see who is told what.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import asynccontextmanager
from random import Random

import pytest

from app.embedded import Valkey
from app.ledger import keys
from app.ledger.connection import connect
from app.ledger.shards import shard_of
from persistence.birth import give_birth
from persistence.fences import unfence
from persistence.migrate import migrate
from persistence.restore.run import restore
from tests.chaos.storm.asking import Asking
from tests.chaos.storm.inspection import Inspection, inspected
from tests.chaos.storm.jobs import Customer
from tests.chaos.storm.records import Balance, Book, Findings, Record, Refused
from tests.chaos.storm.stage import SHARDS, Stage

ALL = set(range(SHARDS))

POISON = """
local sequence = string.format('%d', redis.call('HGET', KEYS[1], 'sequence') + 1)
redis.call('XADD', KEYS[2], sequence .. '-0', 'entry', ARGV[1])
redis.call('HSET', KEYS[1], 'sequence', sequence, 'link', 'poison')
redis.call('HINCRBY', KEYS[1], 'bytes', #ARGV[1])
return tonumber(sequence)
"""


@pytest.fixture
async def inspection(reachable_tmp_path):
    async with Stage(reachable_tmp_path, apis=1, workers=1) as stage, inspected(stage, 1) as inspection:
        yield inspection


async def until(condition: Callable, seconds: float = 20.0) -> None:
    """Until something that is asked again and again is so."""
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110 - what it polls is polled
            await asyncio.sleep(0.02)


async def lag(inspection: Inspection) -> int:
    """How many entries Redis has that the journal has not, as Redis knows it."""
    metas = [
        await inspection.redis.hmget(keys.meta(shard), "sequence", "journaled") for shard in range(SHARDS)
    ]
    return sum(int(sequence) - int(journaled) for sequence, journaled in metas)


async def until_answered(inspection: Inspection, more: int) -> None:
    enough = inspection.book.answered + more

    async def condition() -> bool:
        return inspection.book.answered >= enough

    await until(condition)


async def until_fenced(inspection: Inspection, shards: set[int]) -> None:
    async def condition() -> bool:
        rows = await inspection.database.fetch("SELECT shard FROM shards WHERE fence IS NOT NULL")
        return {row["shard"] for row in rows} == shards

    await until(condition)


async def test_credits_move_while_postgresql_is_away_and_the_journal_catches_up(inspection, nightly):
    stage, book = inspection.stage, inspection.book

    async def behind() -> bool:
        return await lag(inspection) >= 100

    async def caught_up() -> bool:
        return await lag(inspection) < 100

    async with inspection.town.at_work():
        await asyncio.to_thread(stage.postgres.kill)
        await until(behind)
        if nightly:
            await asyncio.sleep(120)
        await until_answered(inspection, 50)
        await stage.revive(stage.postgres)
        await until(caught_up)
    await inspection.calm(everything=True)
    assert book.findings.sentences == []
    assert await lag(inspection) == 0


async def test_a_poisonous_entry_stops_its_shard_alone_and_nothing_behind_it_is_dropped(inspection):
    book, redis, database = inspection.book, inspection.redis, inspection.database
    book.excused.add("ledger_fenced")
    shard = shard_of("shared-0", SHARDS)
    names = [keys.meta(shard), keys.journal(shard)]
    async with inspection.town.at_work():
        await until_answered(inspection, 100)
        poison = await redis.eval(POISON, 2, *names, '{"v":1')
        await until_fenced(inspection, {shard})
        await until_answered(inspection, 100)
    assert book.findings.sentences == []
    last = int(await redis.hget(keys.meta(shard), "sequence"))
    assert await database.fetchval("SELECT cursor FROM shards WHERE shard = $1", shard) < poison <= last
    cursor = await database.fetchval("SELECT cursor FROM shards WHERE shard = $1", shard)
    kept = await redis.xrange(names[1], f"{cursor + 1}-0")
    assert [f"{sequence}-0".encode() for sequence in range(cursor + 1, last + 1)] == [
        name for name, _ in kept
    ]
    refused = [record for record in book.later if record.tries[-1].endswith("ledger_fenced")]
    spent = [record for record in refused if record.verb in ("grant", "deduct")]
    assert {shard_of(record.account, SHARDS) for record in spent} == {shard}


async def test_a_redis_that_is_emptied_under_load_answers_nothing_more_until_it_is_restored(
    inspection, reachable_tmp_path
):
    """What was journaled is there again; the moments that were not yet are lost with it, and nothing else."""
    book = inspection.book
    book.excused.add("ledger_fenced")
    async with inspection.town.at_work():
        await until_answered(inspection, 200)
        await inspection.redis.flushall()
        emptied = time.monotonic()
        await until_fenced(inspection, ALL)
        asked, answered = len(book.records), book.answered

        async def asked_on() -> bool:
            return len(book.records) >= asked + 50

        await until(asked_on)
    assert answered == book.answered
    assert [each for each in book.records if each.asked_at > emptied and each.outcome is not None] == []
    assert [each for each in book.looks if each.asked_at > emptied] == []
    assert book.findings.sentences == []

    await forget_what_was_not_journaled(inspection)
    stage, salvage = inspection.stage, reachable_tmp_path / "salvage"
    restored = await restore(stage.postgres.url, stage.valkey.url, salvage=salvage, watch=Yes())
    assert restored is not None
    assert ([], {}) == (restored.drift, restored.fences)
    async with inspection.town.at_work():
        await until_answered(inspection, 200)
    await inspection.calm(everything=True)
    assert book.findings.sentences == []


class Yes:
    """Looks on and lets it happen."""

    async def claimed(self, standings) -> bool:
        return True

    def step(self, name: str, total: int = 0) -> None:
        pass

    def advance(self, by: int) -> None:
        pass


async def forget_what_was_not_journaled(inspection: Inspection) -> None:
    """Go on as if the end of each shard, which nobody has any more, had never been told; nor any refusal,
    because those are not journaled.
    """
    book, database = inspection.book, inspection.database
    cursors = dict(await database.fetch("SELECT shard, cursor FROM shards"))
    versions = dict(await database.fetch("SELECT account, version FROM accounts"))
    holds = {str(row["id"]) for row in await database.fetch("SELECT id FROM reservations")}

    def is_kept(record: Record) -> bool:
        record.known_version = min(record.known_version, versions[record.account])
        if record.outcome is None:
            return not record.reservation or record.reservation in holds
        if isinstance(record.outcome, Refused):
            return False
        told = record.outcome.transaction
        shard, _, sequence = map(int, told.id.split("-"))
        if record.outcome.balance.version > versions[record.account]:
            record.outcome.balance = Balance(
                told.account_id, told.version, told.balance.available, told.balance.held
            )
        return sequence <= cursors[shard]

    book.records[:] = filter(is_kept, book.records)
    book.later[:] = filter(is_kept, book.later)
    book.looks[:] = [look for look in book.looks if look.version <= versions[look.account]]
    book.told = dict(versions)
    inspection.town.forget()


@pytest.fixture
def other(reachable_tmp_path):
    """A Valkey that is not the ledger's."""
    server = Valkey(reachable_tmp_path / "other", reachable_tmp_path / "other.log", password="other")
    server.start()
    yield server
    server.kill()


@asynccontextmanager
async def mistaken(inspection: Inspection, redis_url: str):
    """A customer of an API that was given the wrong Redis."""
    api = await inspection.stage.new_api("api-mistaken", redis_url)
    api.process.spawn()
    book = Book(Findings())
    book.excused.add("ledger_fenced")
    book.told = inspection.book.told
    asking = Asking([api.url], inspection.stage.token, book, Random(1))
    yield Customer("mistaken", asking, book, Random(1)), book
    asking.close()
    await asyncio.to_thread(api.process.kill)


async def turned_away(customer: Customer, book: Book, times: int) -> None:
    """Ask until so many requests have met a 503."""

    async def condition() -> bool:
        await customer.look("shared-0")
        await customer.deduct_without_key("shared-0")
        return sum("503" in record.tries[-1] for record in book.records) >= times

    await until(condition)


async def test_an_api_over_the_wrong_redis_answers_nothing_and_moves_nothing(inspection, other):
    """First it is another ledger's, which hurts nobody; then an empty one, as if ours had lost everything."""
    book = inspection.book
    book.excused.add("ledger_fenced")
    await inspection.database.execute("CREATE DATABASE other")
    theirs = inspection.stage.postgres.database_url("other")
    await migrate(theirs)
    await give_birth(theirs, other.url, SHARDS)
    async with mistaken(inspection, other.url) as (customer, told), inspection.town.at_work():
        await turned_away(customer, told, 10)
        await until_answered(inspection, 50)
        await until_fenced(inspection, set())
        async with connect(other.url) as redis:
            await redis.flushall()
        await turned_away(customer, told, 20)
    assert ([], []) == (told.looks, [each for each in told.records if each.outcome is not None])
    await unfence(inspection.database, inspection.redis, None, "that was the wrong address")
    await inspection.calm(everything=True)
    assert told.findings.sentences == book.findings.sentences == []

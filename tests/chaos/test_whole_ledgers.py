"""One misfortune each, befalling a whole ledger under load: real servers and processes, a town of customers.

What a storm does in passing is looked at closely here; and what no storm may do (poison a stream, name the
wrong server) is done to see who is told what.
"""

import asyncio
from contextlib import asynccontextmanager
from random import Random

import pytest

from app.embedded import Valkey
from app.ledger import keys
from app.ledger.connection import connect
from app.ledger.shards import shard_of
from persistence.birth import give_birth
from persistence.migrate import migrate
from tests.chaos.scenes import lag, until, until_answered, until_fenced
from tests.chaos.storm.asking import Asking
from tests.chaos.storm.inspection import Inspection
from tests.chaos.storm.jobs import Customer
from tests.chaos.storm.records import Book, Findings
from tests.chaos.storm.stage import SHARDS

POISON = """
local sequence = string.format('%d', redis.call('HGET', KEYS[1], 'sequence') + 1)
redis.call('XADD', KEYS[2], sequence .. '-0', 'entry', ARGV[1])
redis.call('HSET', KEYS[1], 'sequence', sequence, 'link', 'poison')
redis.call('HINCRBY', KEYS[1], 'bytes', #ARGV[1])
return tonumber(sequence)
"""


async def test_credits_move_while_postgresql_is_away_and_the_journal_catches_up(inspection, nightly):
    stage, book = inspection.stage, inspection.book

    async def behind() -> bool:
        return await lag(inspection) >= 100

    async def caught_up() -> bool:
        return await lag(inspection) < 100

    book.patience_seconds = 300  # new keys of grants are not answered before it is back
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
    """First it is another ledger's, then an empty one, as if ours had lost everything. Ours never notices."""
    book = inspection.book
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
        await until_answered(inspection, 50)
        await until_fenced(inspection, set())
    assert ([], []) == (told.looks, [each for each in told.records if each.outcome is not None])
    await inspection.calm(everything=True)
    assert told.findings.sentences == book.findings.sentences == []

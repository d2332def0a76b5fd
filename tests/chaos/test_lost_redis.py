"""A Redis that loses all it had, or its end, under load: what was journaled is there again, and of the rest
it is said that it is lost.
"""

import asyncio
import shutil
import time

import asyncpg
import msgspec

from app.ledger.shards import TransactionId
from persistence.restore.run import restore
from tests.chaos.scenes import until, until_answered, until_fenced
from tests.chaos.storm.inspection import Inspection
from tests.chaos.storm.records import Balance, Record, Refused
from tests.chaos.storm.stage import SHARDS

ALL = set(range(SHARDS))


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
    assert not book.findings.sentences, "\n".join(book.findings.sentences)

    cursors = dict(await inspection.database.fetch("SELECT shard, cursor FROM shards"))
    lost = await forget_what_was_lost(inspection, await versions(inspection.database))
    assert all(each.sequence > cursors[each.shard] for each in lost)
    inspection.proofs.may_lose = True
    stage, salvage = inspection.stage, reachable_tmp_path / "salvage"
    restored = await restore(stage.postgres.url, stage.valkey.url, salvage=salvage, watch=Yes())
    assert restored is not None
    assert ([], {}) == (restored.drift, restored.fences)
    async with inspection.town.at_work():
        await until_answered(inspection, 200)
    await inspection.calm(everything=True)
    assert not book.findings.sentences, "\n".join(book.findings.sentences)


class Yes:
    """Looks on and lets it happen."""

    async def claimed(self, standings) -> bool:
        return True

    def step(self, name: str, total: int = 0) -> None:
        pass

    def advance(self, by: int) -> None:
        pass


async def test_a_redis_with_older_data_is_rolled_forward_and_what_it_lost_is_told(inspection):
    """Its end was not journaled either: of all that was acknowledged only that is missing, name by name."""
    stage, book, database = inspection.stage, inspection.book, inspection.database
    data = stage.valkey.folder()
    book.excused |= {"ledger_unavailable", "no answer in time"}
    async with inspection.town.at_work():
        await until_answered(inspection, 50)
        await asyncio.to_thread(stage.valkey.stop)
        await asyncio.to_thread(shutil.copytree, data, data.parent / "older")
        await stage.revive(stage.valkey)
        await until_answered(inspection, 100)
        await asyncio.to_thread(stage.workers[0].kill)
        await until_answered(inspection, 50)
        await asyncio.to_thread(stage.valkey.kill)
    shutil.rmtree(data)
    (data.parent / "older").rename(data)
    before = dict(await database.fetch("SELECT shard, cursor FROM shards"))
    known = await versions(database)
    await stage.revive_all()
    await inspection.settling.well()
    await inspection.settling.drained()
    assert not book.findings.sentences, "\n".join(book.findings.sentences)

    lost = await forget_what_was_lost(inspection, known)
    assert lost
    assert all(each.sequence > before[each.shard] for each in lost)
    book.excused.clear()
    inspection.proofs.may_lose = True
    async with inspection.town.at_work():
        await until_answered(inspection, 100)
        await until_reported(database, set(lost))
    await inspection.calm(everything=True)
    assert not book.findings.sentences, "\n".join(book.findings.sentences)


async def until_reported(database, lost: set[TransactionId]) -> None:
    """Until the API has told of all that was lost (it gave more than was heard), and of nothing else."""
    told: set[TransactionId | None] = set()

    async def condition() -> bool:
        rows = await database.fetch("SELECT operations FROM acknowledged_lost")
        names = [each["transaction"] for row in rows for each in msgspec.json.decode(row["operations"])]
        told.update(TransactionId.parse(name) for name in names)
        return lost <= told

    await until(condition)
    rows = await database.fetch("SELECT shard, incarnation, seq FROM journal")
    assert set() == told & {TransactionId(*row) for row in rows}


async def versions(database: asyncpg.Pool) -> dict[str, int]:
    """What the journal has of each account."""
    return dict(await database.fetch("SELECT account, version FROM accounts"))


async def forget_what_was_lost(inspection: Inspection, known: dict[str, int]) -> list[TransactionId]:
    """Go on as if what nobody has any more had never been told, and return it; nor any refusal, because those
    are not journaled. Beyond the versions `known` before Redis came back, others may have come since.
    """
    book, database = inspection.book, inspection.database
    rows = await database.fetch("SELECT shard, incarnation, seq FROM journal")
    journaled = {TransactionId(*row) for row in rows}
    holds = {str(row["id"]) for row in await database.fetch("SELECT id FROM reservations")}
    lost = set()

    def is_kept(record: Record) -> bool:
        record.known_version = min(record.known_version, known.get(record.account, 0))
        if record.outcome is None:
            return not record.reservation or record.reservation in holds
        if isinstance(record.outcome, Refused):
            return False
        told = record.outcome.transaction
        if record.outcome.balance.version > known.get(record.account, 0):
            record.outcome.balance = Balance(
                told.account_id, told.version, told.balance.available, told.balance.held
            )
        name = TransactionId.parse(told.id)
        if name not in journaled:
            lost.add(name)
        return name in journaled

    book.records[:] = filter(is_kept, book.records)
    book.later[:] = filter(is_kept, book.later)
    book.looks[:] = [look for look in book.looks if look.version <= known.get(look.account, 0)]
    book.told = dict(known)
    inspection.town.forget()
    return sorted(lost)

"""Entries about reservations that clean-up has dropped: journaled, and their rows brought back."""

import msgspec

from app.ledger import keys
from app.ledger.operations import Confirm, Extend, Grant, Reserve
from app.ledger.shards import new_reservation_id
from persistence import rebuild
from tests.integration.cleaning.dropped import drop_all
from tests.integration.journal.workers import fence_of, keep_journal
from tests.integration.reconcile.past import ANA, NOW_MS


class Job:
    """A reservation of ana's that expired, of a shard whose journal is behind."""

    def __init__(self, caller, redis) -> None:
        self.caller, self.redis = caller, redis
        self.id = new_reservation_id(0, NOW_MS)

    async def expire(self) -> None:
        await self.caller.call([
            Grant(shard=0, account=ANA, amount=100, open=True),
            Reserve(
                shard=0, account=ANA, reservation=self.id, amount=7, ttl_ms=1, task="t", task_shard=0,
                on_expired="charge", over_capture="charge",
            ),
        ])  # fmt: skip
        reply = await self.caller.call([Extend(shard=0, reservation=self.id, ttl_ms=1, task_shard=0)])
        assert reply.status == "ok"

    async def confirm_late(self) -> None:
        reply = await self.caller.call([Confirm(shard=0, reservation=self.id, amount=9)])
        (applied,) = reply.results
        assert "confirmed" == applied.entry.kind
        assert applied.entry.late


async def expired(caller, redis) -> Job:
    job = Job(caller, redis)
    await job.expire()
    text = await redis.get(keys.reservation(0, job.id))
    while msgspec.json.decode(text)["status"] == "pending":
        await caller.call([Grant(shard=0, account=ANA, amount=1)])
        text = await redis.get(keys.reservation(0, job.id))
    return job


async def test_an_entry_about_a_dropped_one_is_journaled_and_brings_it_back(
    caller, database, redis, worker, reconcile
):
    """As after a hundred days without PostgreSQL: its ending was dropped before the next batch came."""
    job = await expired(caller, redis)
    await keep_journal(worker)
    await drop_all(database)
    assert await database.fetchval("SELECT count(*) FROM reservations") == 0
    await job.confirm_late()
    await keep_journal(worker)
    assert await fence_of(database) is None
    row = await database.fetchrow("SELECT * FROM reservations")
    assert ("confirmed", True, 0, 9, "charge", "charge", "t") == tuple(
        row[name] for name in ("status", "late", "held", "charged", "on_expired", "over_capture", "task")
    )
    assert "equal" == (await reconcile()).status


async def test_one_that_is_dropped_while_an_entry_about_it_is_journaled_is_complete_in_the_journal(
    caller, database, redis, worker, reconcile, connection
):
    """Its row is gone between the look at it and the change of it, which then changes nothing."""
    job = await expired(caller, redis)
    await keep_journal(worker)
    await job.confirm_late()

    async def meanwhile(step):
        if step == "after read" and await database.fetchval("SELECT count(*) FROM reservations"):
            await drop_all(database)

    await keep_journal(worker, barrier=meanwhile)
    assert await fence_of(database) is None
    found = (await rebuild.reservations(connection, [job.id]))[job.id]
    assert ("confirmed", True, 9) == (found.status, found.late, found.charged)
    assert "equal" == (await reconcile()).status

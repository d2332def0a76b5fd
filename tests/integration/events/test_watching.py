"""What time brings about is told once: deadlines, lots that lapse, reconciliations in drift."""

import asyncio
from datetime import UTC, datetime, timedelta

import msgspec

from app.ledger.operations import Cancel, Extend, Grant, Reserve
from app.ledger.shards import new_reservation_id
from persistence.events import watching
from persistence.events.watching import watch
from tests.integration.ledgers import journal_all

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


async def told(database) -> list[dict]:
    """The data of what was told, in order."""
    rows = await database.fetch("SELECT body FROM events ORDER BY number")
    return [msgspec.json.decode(row["body"])["data"] for row in rows]


async def look(database, at: datetime) -> int:
    async with database.acquire() as connection:
        return await watch(connection, at)


async def held(caller, ttl_ms: int, account: str = "ana") -> str:
    reservation = new_reservation_id(0, 1_700_000_000_000)
    reply = await caller.call([
        Grant(shard=0, account=account, amount=100, open=True),
        Reserve(shard=0, account=account, reservation=reservation, amount=7, ttl_ms=ttl_ms),
    ])  # fmt: skip
    assert ("ok", 1) == (reply.status, len(reply.reservations))
    return reservation


async def test_a_deadline_is_told_of_two_minutes_before_and_again_when_it_was_extended(
    database, database_url, redis_url, caller, managed
):
    await managed.create("http://127.0.0.1:9/", ["reservation.due"], "key:test")
    open_one, ended = await held(caller, 600_000), await held(caller, 600_000)
    await caller.call([Cancel(shard=0, reservation=ended)])
    await journal_all(database_url, redis_url)
    deadline = await database.fetchval("SELECT expires_at FROM reservations WHERE id::text = $1", open_one)
    assert 0 == await look(database, deadline - 2 * MINUTE - timedelta(seconds=1))
    assert [1, 0, 0] == [await look(database, deadline - 2 * MINUTE) for _ in range(3)]
    await asyncio.gather(*(look(database, deadline - MINUTE) for _ in range(6)))
    (due,) = await told(database)
    assert (open_one, "ana", 7) == (due["reservationId"], due["accountId"], due["held"])
    assert deadline == datetime.fromisoformat(due["expiresAt"])
    await caller.call([Extend(shard=0, reservation=open_one, ttl_ms=900_000)])
    await journal_all(database_url, redis_url)
    later = await database.fetchval("SELECT expires_at FROM reservations WHERE id::text = $1", open_one)
    assert 0 == await look(database, deadline)
    assert 1 == await look(database, later - MINUTE)
    assert 0 == await look(database, later + MINUTE), "it has expired, which is told otherwise"
    assert 2 == len(await told(database))


async def test_what_lapses_within_a_day_is_told_once_for_each_lot_with_something_in_it(
    database, database_url, redis_url, caller, managed, monkeypatch
):
    monkeypatch.setattr(watching, "ROWS_MAX", 3)
    await managed.create("http://127.0.0.1:9/", ["grant.lapsing"], "key:test")
    now = datetime.now(UTC).replace(microsecond=0)

    def ms(at: datetime) -> int:
        return int(at.timestamp() * 1000)

    month_end, later = now + 20 * HOUR, now + 30 * HOUR
    grants = [
        Grant(shard=0, account=f"acc-{each}", amount=5, open=True, bucket="plan", expires_at_ms=ms(month_end))
        for each in range(8)
    ]
    grants.append(Grant(shard=0, account="acc-0", amount=9, bucket="plan", expires_at_ms=ms(later)))
    grants.append(Grant(shard=0, account="acc-0", amount=9, bucket="gift"))
    assert "ok" == (await caller.call(grants)).status
    await journal_all(database_url, redis_url)
    await database.execute("UPDATE lots SET available = 0 WHERE account = 'acc-7'")
    assert [3, 3, 1, 0, 0, 0] == [await look(database, now) for _ in range(6)]
    await database.execute("UPDATE lots SET available = 4 WHERE account = 'acc-7'")
    assert 1 == sum([await look(database, now) for _ in range(4)])
    assert 1 == sum([await look(database, now + 7 * HOUR) for _ in range(4)])
    lapsing = await told(database)
    assert [f"acc-{each}" for each in (*range(8), 0)] == [each["accountId"] for each in lapsing]
    assert {"accountId": "acc-7", "bucket": "plan", "available": 4} == {
        name: lapsing[7][name] for name in ("accountId", "bucket", "available")
    }
    assert later == datetime.fromisoformat(lapsing[8]["expiresAt"])


RUN = """
INSERT INTO reconciliations (started_at, finished_at, status, by, accounts, drift)
VALUES ($1, $2, $3, 'test', 12, '[{}, {}]') RETURNING id::text
"""


async def test_a_reconciliation_that_ends_in_drift_is_told_of_once(database, managed):
    now = datetime.now(UTC)
    await database.execute(RUN, now - HOUR, now - HOUR, "drift")
    await managed.create("http://127.0.0.1:9/", [], "key:test")
    for status in ("equal", "unknown"):
        await database.execute(RUN, now, now + MINUTE, status)
    assert 0 == await look(database, now + MINUTE)
    run = await database.fetchval(RUN, now, now + MINUTE, "drift")
    assert [1, 0] == [await look(database, now + MINUTE) for _ in range(2)]
    (drift,) = await told(database)
    assert (run, 12, 2) == (drift["reconciliationId"], drift["accounts"], drift["differences"])


async def test_nothing_is_looked_at_that_nobody_wants_to_be_told(
    database, database_url, redis_url, caller, managed
):
    await held(caller, 60_000)
    await journal_all(database_url, redis_url)
    await managed.create("http://127.0.0.1:9/", ["balance.low"], "key:test")
    assert 0 == await look(database, datetime.now(UTC))
    assert [] == await told(database)

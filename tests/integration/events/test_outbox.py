"""The outbox: kept for whoever listens, once, and only if the transaction commits."""

import asyncio
from decimal import Decimal

from app.events import GrantLapsing, ProviderFinished
from persistence.events import Outbox

LAPSING = GrantLapsing(account_id="alice", bucket="plan", available=7, expires_at="2026-11-30T00:00:00.000Z")


async def listen(database, *types: str, enabled: bool = True) -> str:
    return await database.fetchval(
        """
        INSERT INTO event_endpoints (url, types, secret, enabled, why_off, by, created_at)
        VALUES ('https://shop.example/hook', $1, 'whsec_', $2, CASE WHEN $2 THEN NULL ELSE 'off' END,
          'key:test', now()) RETURNING id::text
        """,
        list(types),
        enabled,
    )


async def deliveries(database) -> list[tuple[str, str]]:
    rows = await database.fetch(
        "SELECT type, endpoint::text FROM events JOIN event_deliveries ON event = id ORDER BY number, 2"
    )
    return [tuple(row) for row in rows]


async def test_an_event_goes_to_whom_it_interests_and_is_not_kept_for_nobody(database):
    await listen(database, "balance.low")
    await listen(database, enabled=False)
    await Outbox.put(database, "grant.lapsing", "alice", LAPSING)
    assert 0 == await database.fetchval("SELECT count(*) FROM events")
    everything, lapsing = await listen(database), await listen(database, "balance.low", "grant.lapsing")
    await Outbox.put(database, "grant.lapsing", "alice", LAPSING)
    assert sorted([("grant.lapsing", everything), ("grant.lapsing", lapsing)]) == await deliveries(database)


async def test_what_is_put_under_one_name_is_told_once_whoever_else_puts_it(database):
    await listen(database)
    await asyncio.gather(
        *(Outbox.put(database, "grant.lapsing", "alice", LAPSING, once="it") for _ in range(8))
    )
    assert 1 == len(await deliveries(database))


async def test_an_event_of_a_transaction_that_is_taken_back_was_never_there(database):
    await listen(database)
    async with database.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await Outbox.put(connection, "grant.lapsing", "alice", LAPSING)
        await transaction.rollback()
    assert [] == await deliveries(database)


async def test_numbers_of_a_provider_are_sent_on_as_they_were_written(database):
    await listen(database)
    finished = ProviderFinished(
        provider="sync", reservation_id="r", account_id="a", outcome="succeeded",
        payload={"seconds": Decimal("1.10"), "text": "\0"},
    )  # fmt: skip
    await Outbox.put(database, "provider.finished", "a", finished)
    body = await database.fetchval("SELECT body FROM events")
    assert '"payload":{"seconds":1.10,"text":"\\u0000"}' in body


async def test_an_endpoint_that_is_removed_meanwhile_stops_nobody(database):
    gone, stays = await listen(database), await listen(database)
    async with database.acquire() as connection, connection.transaction():
        await connection.execute("DELETE FROM event_endpoints WHERE id::text = $1", gone)
        putting = asyncio.create_task(Outbox.put(database, "grant.lapsing", "alice", LAPSING))
        await asyncio.wait({putting}, timeout=0.2)
    await putting
    assert [("grant.lapsing", stays)] == await deliveries(database)

"""Workers and cron as processes: a callback that waits is acted on within seconds of its task being bound."""

import asyncio
import time

import asyncpg
import msgspec

from app.ledger.operations import Bind, Grant, Reserve
from app.webhooks.inbox import Received
from app.webhooks.settling import Settlement
from persistence.inbox.inbox import PostgresInbox
from persistence.workbench import Workbench
from tests.integration.jobs.waiting import at_work
from tests.processes import CRON, WORKER, argument

PROMISED_SECONDS = 10.0
SUCCEEDED = Received(
    provider="sync",
    named="t",
    outcome="succeeded",
    word="COMPLETED",
    task="t",
    payload='{"outputDuration": 3}',
)


async def waits(database: asyncpg.Pool, ledger) -> tuple[PostgresInbox, int, str]:
    """A callback whose task nobody knows, and the reservation that it is going to be of."""
    inbox = PostgresInbox(database, database)
    kept = await inbox.receive(SUCCEEDED)
    await inbox.settle(kept.id, SUCCEEDED, Settlement(status="waiting"))
    await ledger.grant(Grant(account="ana", amount=100))
    id_ = await ledger.new_reservation_id("ana")
    price = '{"model": "m", "version": 1, "base": "0", "price": "2", "units": "10"}'
    await ledger.reserve(Reserve(account="ana", reservation=id_, amount=20, model="m", price=price))
    return inbox, kept.id, id_


async def test_a_task_that_is_bound_finds_its_callback_within_ten_seconds(
    ledger,
    work,
    processes,
    database,
):
    inbox, row, id_ = await waits(database, ledger)
    work = msgspec.structs.replace(work, webhook_units="sync=/outputDuration")
    first, second = (processes(WORKER, argument(work)) for _ in range(2))
    processes(CRON, work.queue_url)
    await at_work(work, first, second)
    assert "waiting" == (await inbox.row(row)).status
    await ledger.bind(Bind(reservation=id_, task="t", provider="sync"))
    bound = time.monotonic()
    async with asyncio.timeout(60):
        while (found := await inbox.row(row)).status == "waiting":  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert time.monotonic() - bound < PROMISED_SECONDS
    assert ("verified", id_, 6) == (found.status, found.reservation, found.credits)


async def test_a_worker_without_postgres_or_redis_goes_on_later(ledger, work, database):
    inbox, row, _ = await waits(database, ledger)
    away = msgspec.structs.replace(work, database_url="postgresql://nobody@127.0.0.1:1/none")
    bench = Workbench(away)
    bench.open()
    assert 0 == await asyncio.to_thread(bench.run, bench.webhooks)
    bench.close()
    assert "waiting" == (await inbox.row(row)).status

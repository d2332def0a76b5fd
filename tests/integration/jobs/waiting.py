"""Waits for what processes of their own do."""

import asyncio
import time
from contextlib import suppress

from app.ledger.backing import BackingUnavailable
from app.ledger.errors import LedgerUnavailable
from app.ledger.ledger import Ledger, Receipt
from app.ledger.operations import Grant
from persistence.pool import Pool, answering
from persistence.schedule import connect
from persistence.work import workers_alive
from persistence.workbench import Work


async def eventually(condition, seconds=10.0):
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 (there is no event to wait for)
            await asyncio.sleep(0.01)


async def granted(ledger: Ledger, account: str) -> Receipt:
    """Grant one credit, and again while there is no definite answer."""
    async with asyncio.timeout(10):
        while True:
            with suppress(LedgerUnavailable):
                return await ledger.grant(Grant(account=account, amount=1))


async def journaled(database: Pool, ledger: Ledger, seconds: float) -> float:
    """Grant something in every shard, demand that it is journaled in time, and return how long that took."""
    receipts = [await granted(ledger, f"acc-{number}") for number in range(8)]
    wanted = {receipt.shard: receipt.sequence for receipt in receipts}
    assert 4 == len(wanted)
    began = time.monotonic()
    cursors: dict[int, int] = {}
    async with asyncio.timeout(seconds):
        while any(cursors.get(shard, 0) < sequence for shard, sequence in wanted.items()):
            with suppress(BackingUnavailable):
                async with answering(database) as connection:
                    cursors = dict(await connection.fetch("SELECT shard, cursor FROM shards"))
            await asyncio.sleep(0.01)
    return time.monotonic() - began


def workers_alive_now(work: Work) -> int:
    with connect(work.queue_url) as queues:
        return workers_alive(queues)

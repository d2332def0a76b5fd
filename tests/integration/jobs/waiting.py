"""Waits for what processes of their own do."""

import asyncio
import subprocess
import time
from contextlib import suppress

from rq import Queue, SimpleWorker
from rq.worker import WorkerStatus

from app.ledger.backing import BackingUnavailable
from app.ledger.errors import LedgerUnavailable
from app.ledger.ledger import Ledger
from app.ledger.operations import Grant
from app.ledger.receipts import Receipt
from persistence import jobs
from persistence.pool import Pool, answering
from persistence.schedule import connect
from persistence.told import Work
from persistence.work import workers_alive
from tests import proc

PATIENCE_SECONDS = 30.0
"""For what has to happen, and of which nobody has promised when."""


async def eventually(condition):
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():  # noqa: ASYNC110 (there is no event to wait for)
            await asyncio.sleep(0.01)


async def granted(ledger: Ledger, account: str) -> Receipt:
    """Grant one credit, and again while there is no definite answer."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            with suppress(LedgerUnavailable):
                return await ledger.grant(Grant(account=account, amount=1))


async def granted_everywhere(ledger: Ledger) -> dict[int, int]:
    """Grant something in every shard. Returns how far the journal has to come: shard to sequence."""
    receipts = [await granted(ledger, f"acc-{number}") for number in range(8)]
    wanted = {receipt.shard: receipt.sequence for receipt in receipts}
    assert 4 == len(wanted)
    return wanted


async def caught_up(database: Pool, wanted: dict[int, int], seconds: float = PATIENCE_SECONDS) -> None:
    """Demand that so much is journaled in time."""
    cursors: dict[int, int] = {}
    async with asyncio.timeout(seconds):
        while any(cursors.get(shard, 0) < sequence for shard, sequence in wanted.items()):
            with suppress(BackingUnavailable):
                async with answering(database) as connection:
                    cursors = dict(await connection.fetch("SELECT shard, cursor FROM shards"))
            await asyncio.sleep(0.01)


async def journaled(database: Pool, ledger: Ledger, seconds: float = PATIENCE_SECONDS) -> None:
    """Grant something in every shard, and demand that it is journaled in time."""
    await caught_up(database, await granted_everywhere(ledger), seconds)


LOCKED_OUT = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database()
    AND application_name = 'lastro journal' AND state = 'idle' AND query LIKE '%pg_try_advisory_lock%'
"""


async def in_vain(database: Pool) -> None:
    """Wait until somebody has tried to get the shards, which another one journals, and does nothing else."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await database.fetchval(LOCKED_OUT):  # noqa: ASYNC110 (there is no event to wait for)
            await asyncio.sleep(0.01)


def is_busy(work: Work) -> bool:
    """Whether a worker shows that it runs a job."""
    with connect(work.queue_url) as queues:
        return any(each.get_state() == WorkerStatus.BUSY for each in SimpleWorker.all(connection=queues))


async def ended(process: "subprocess.Popen[bytes]", seconds: float) -> int:
    """Its exit code. It has to end in time; what it stands in line for a processor does not count."""
    began, in_line_before, in_line = time.monotonic(), proc.seconds_in_line(process.pid), 0.0
    while process.poll() is None:
        in_line = max(in_line, proc.seconds_in_line(process.pid) - in_line_before)
        assert time.monotonic() - began - in_line < seconds, f"it lives, {in_line:.1f} s in line"
        await asyncio.sleep(0.02)
    return process.returncode


async def at_work(work: Work, *processes: "subprocess.Popen[bytes]") -> None:
    """Wait until these workers wait for jobs or have one: what a Python takes to start is the machine's."""
    wanted = {each.pid for each in processes}
    with connect(work.queue_url) as queues:
        queue = Queue(jobs.JOURNAL_QUEUE, connection=queues)

        def there() -> set[int | None]:
            every = SimpleWorker.all(queue=queue)
            return {each.pid for each in every if each.get_state() in (WorkerStatus.IDLE, WorkerStatus.BUSY)}

        await eventually(lambda: wanted <= there())


def workers_alive_now(work: Work) -> int:
    with connect(work.queue_url) as queues:
        return workers_alive(queues)

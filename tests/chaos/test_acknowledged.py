"""What an acknowledgement survives: each line of the table of docs/acknowledging.md names its tests here.

An answer is *kept* when its entry is in what is served afterwards, and *lost* when it is not. What is lost is
shown too: a level that promises less is not to be believed to promise more.
"""

import asyncio
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path

import pytest
from redis import Redis as BlockingRedis
from redis.asyncio import Redis

from app.embedded import Valkey
from app.ledger import keys
from app.ledger.batcher import Limits
from app.ledger.connection import connect
from app.ledger.errors import LedgerFenced, LedgerUnavailable
from app.ledger.ledger import Ledger, Receipt
from app.ledger.operations import Deduct, Grant
from app.ledger.replicas import Replicas
from persistence import admission
from persistence.backing import PostgresBacking
from persistence.birth import give_birth
from persistence.journal import Journal
from persistence.journaled import Journaled
from persistence.pool import Pool, open_pool
from persistence.session import connect as session
from tests.conftest import PASSWORD
from tests.engine import Streams
from tests.integration.journal.workers import to_the_end
from tests.replicating import following

ROOT = Path(__file__).parents[2]
SHARDS = 1


@asynccontextmanager
async def memory(url: str, replicas: int = 0, seconds: float = 5.0) -> AsyncIterator[Ledger]:
    """A ledger at `memory`, or at `replicated=N`, with 100 credits for ana."""
    async with connect(url) as client, connect(url) as waiting:
        journal = Streams(client, SHARDS, (await client.info("replication"))["master_replid"])
        await journal.found()
        waits = Replicas(waiting, replicas) if replicas else None
        ledger = Ledger(client, journal, Limits(request_seconds=seconds), replicas=waits)
        await ledger.start()
        try:
            await ledger.grant(Grant(account="ana", amount=100))
            yield ledger
        finally:
            await ledger.stop()


async def deduct(ledger: Ledger) -> str:
    """Spend a credit; the nonce of its entry tells it from any other."""
    return (await receipt_of(ledger)).entry.nonce


async def receipt_of(ledger: Ledger) -> Receipt:
    return await ledger.deduct(Deduct(account="ana", amount=1))


def entries(redis: BlockingRedis) -> bytes:
    """All entries of the stream, as text."""
    return b"\n".join(fields[b"entry"] for _, fields in redis.xrange(keys.journal(0)))


def is_kept(nonce: str, url: str) -> bool:
    with BlockingRedis.from_url(url) as redis:
        return nonce.encode() in entries(redis)


@contextmanager
def valkey(folder: Path, appendfsync: str) -> Iterator[Valkey]:
    server = Valkey(folder / "valkey", folder / "valkey.log", password=PASSWORD, appendfsync=appendfsync)
    server.start()
    try:
        yield server
    finally:
        server.kill()


def log_of(server: Valkey) -> Path:
    """The file that Valkey appends to."""
    return max(server.folder().rglob("*.incr.aof"))


@pytest.mark.parametrize("appendfsync", ["everysec", "always"])
async def test_an_answer_survives_the_process_of_redis(reachable_tmp_path, appendfsync):
    """Redis hands the bytes to the kernel before it answers, whenever they are on the disk."""
    with valkey(reachable_tmp_path, appendfsync) as server:
        async with memory(server.url) as ledger:
            nonce = await deduct(ledger)
            server.restart()
        assert is_kept(nonce, server.url)


async def test_without_a_file_an_answer_is_lost_with_the_process_of_redis(reachable_tmp_path):
    with valkey(reachable_tmp_path, "always") as server:
        with BlockingRedis.from_url(server.url) as redis:
            redis.config_set("appendonly", "no")
        async with memory(server.url) as ledger:
            nonce = await deduct(ledger)
            server.kill()
            shutil.rmtree(server.folder() / "appendonlydir")
            server.start()
        assert not is_kept(nonce, server.url)


async def test_under_everysec_a_loss_of_power_may_cost_what_had_not_reached_the_disk(reachable_tmp_path):
    with valkey(reachable_tmp_path, "everysec") as server:
        async with memory(server.url) as ledger:
            on_disk = log_of(server).stat().st_size
            nonce = await deduct(ledger)
            server.kill()
        _cut(log_of(server), on_disk)
        server.start()
        assert not is_kept(nonce, server.url)


async def test_under_always_an_answer_is_on_the_disk_before_it_is_given(reachable_tmp_path):
    """Seen from below: between what Redis appends and what it answers there is a fsync of the file."""
    with valkey(reachable_tmp_path, "always") as server:
        async with memory(server.url) as ledger:
            with traced(server, reachable_tmp_path / "trace") as trace:
                nonces = [await deduct(ledger) for _ in range(5)]
    calls = trace.read_text().splitlines()
    for nonce in nonces:
        naming = [number for number, call in enumerate(calls) if nonce in call]
        appended = next(number for number in naming if ".incr.aof>" in calls[number])
        answered = next(number for number in naming if "<socket:" in calls[number])
        between = "\n".join(calls[appended + 1 : answered])
        assert re.search(r"fdatasync\(\d+<[^>]*\.incr\.aof>\) += 0", between)


@contextmanager
def traced(server: Valkey, path: Path) -> Iterator[Path]:
    """What the server asks of the kernel, in order."""
    program = shutil.which("strace")
    if program is None:
        pytest.skip("strace is not installed")
    what = "trace=write,writev,fsync,fdatasync"
    command = [program, "-f", "-y", "-s", "100000", "-e", what, "-o", str(path), "-p", str(server.pid)]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as tracer:
        assert tracer.stderr is not None
        if b"attached" not in tracer.stderr.readline():
            tracer.kill()
            pytest.skip("strace may not look at a process here")
        yield path
        tracer.terminate()


async def test_a_failover_may_cost_what_the_new_primary_had_not_got_yet(own_valkey, reachable_tmp_path):
    with following(own_valkey, reachable_tmp_path, PASSWORD) as servers:
        async with memory(own_valkey.url) as ledger:
            servers.cut_off(servers.replicas[0])
            nonce = await deduct(ledger)
            servers.promote(servers.replicas[0]).close()
        assert not is_kept(nonce, servers.replicas[0].url)


async def test_what_replicas_have_acknowledged_survives_the_primary_on_each_of_them(
    own_valkey, reachable_tmp_path
):
    """Of two replicas one is cut off: at `replicated=1` the other one has the answer."""
    with following(own_valkey, reachable_tmp_path, PASSWORD, 2) as servers:
        away, near = servers.replicas
        async with memory(own_valkey.url, replicas=1) as ledger:
            servers.cut_off(away)
            nonce = await deduct(ledger)
        servers.promote(near).close()
        assert is_kept(nonce, near.url)
        assert not is_kept(nonce, away.url), "that one had not acknowledged it"


async def test_as_many_replicas_as_there_are_leave_none_that_lacks_it(own_valkey, reachable_tmp_path):
    with following(own_valkey, reachable_tmp_path, PASSWORD, 2) as servers:
        async with memory(own_valkey.url, replicas=2, seconds=2.0) as ledger:
            servers.halt(servers.replicas[0])
            with pytest.raises(LedgerUnavailable, match="too few replicas"):
                await deduct(ledger)
            servers.let_go_on(servers.replicas[0])
            nonce = await deduct(ledger)
        own_valkey.kill()
        assert all(is_kept(nonce, each.url) for each in servers.replicas)


class Backed:
    """A ledger whose journal is kept when the test says so."""

    def __init__(self, ledger: Ledger, pool: Pool, journal: Journal, redis: Redis) -> None:
        self.ledger = ledger
        self.pool = pool
        self.redis = redis
        self._journal = journal

    @classmethod
    @asynccontextmanager
    async def of(cls, url: str, database_url: str) -> AsyncIterator["Backed"]:
        born = await give_birth(database_url, url, SHARDS)
        async with (
            await open_pool(database_url) as pool,
            connect(url) as client,
            connect(url) as aside,
            connect(url) as reading,
        ):
            backing = PostgresBacking(pool, partial(admission.admit, pool, aside))
            ledger = Ledger(client, backing, Limits(request_seconds=2.0))
            await ledger.start()
            connection = await session(database_url)
            journal = Journal(connection, reading, str(born), keep=None)
            await journal.lock([0])
            try:
                await ledger.grant(Grant(account="ana", amount=100))
                yield cls(ledger, pool, journal, aside)
            finally:
                await connection.close()
                await ledger.stop()

    async def journaled_deduct(self) -> Receipt:
        """As `Lastro-Ack: journaled` has it: the answer is given once PostgreSQL has the entry."""
        receipt = await receipt_of(self.ledger)
        waiting = asyncio.create_task(
            Journaled(self.pool).journaled(receipt.transaction, receipt.entry.nonce)
        )
        await to_the_end(self._journal, 0)
        assert await waiting
        return receipt

    async def keep_journal(self) -> None:
        await to_the_end(self._journal, 0)

    async def has(self, receipt: Receipt) -> bool:
        """Whether PostgreSQL has this very entry."""
        return await Journaled(self.pool).wait(
            receipt.shard, receipt.sequence, receipt.entry.nonce, receipt.entry.incarnation, 1.0
        )

    async def balance(self) -> int | None:
        """What is served of ana; `None` while that is refused."""
        try:
            return (await self.ledger.balance("ana")).account.available
        except (LedgerFenced, LedgerUnavailable):
            return None


async def test_what_is_journaled_survives_a_loss_of_power_of_redis_and_is_never_served_without(
    reachable_tmp_path, database_url
):
    """Redis comes back without it: it is rolled forward or refused."""
    with valkey(reachable_tmp_path, "everysec") as server:
        async with Backed.of(server.url, database_url) as backed:
            await backed.keep_journal()
            on_disk = log_of(server).stat().st_size
            receipt = await backed.journaled_deduct()
            server.kill()
            _cut(log_of(server), on_disk)
            server.start()
            seen = [await backed.balance() for _ in range(3)]
            assert set(seen) <= {None, 99}
            assert await backed.has(receipt)


async def test_what_is_journaled_survives_the_data_of_redis_and_what_is_not_is_lost(own_valkey, database_url):
    async with Backed.of(own_valkey.url, database_url) as backed:
        receipt = await backed.journaled_deduct()
        lost = await receipt_of(backed.ledger)
        await backed.redis.flushall()
        assert [None] * 3 == [await backed.balance() for _ in range(3)]
        assert await backed.has(receipt)
        assert not await backed.has(lost)


async def test_what_is_journaled_survives_the_process_of_postgresql(own_valkey, own_postgres):
    async with Backed.of(own_valkey.url, own_postgres.url) as backed:
        receipt = await backed.journaled_deduct()
        own_postgres.restart()
        assert await backed.has(receipt)


async def test_an_answer_does_not_need_postgresql_and_is_journaled_when_it_is_back(own_valkey, own_postgres):
    async with Backed.of(own_valkey.url, own_postgres.url) as backed:
        await backed.keep_journal()
        own_postgres.kill()
        receipt = await receipt_of(backed.ledger)
        own_postgres.start()
        connection = await session(own_postgres.url)
        ledger = await connection.fetchval("SELECT id FROM ledger")
        journal = Journal(connection, backed.redis, str(ledger), keep=None)
        await journal.lock([0])
        await to_the_end(journal, 0)
        await connection.close()
        assert await backed.has(receipt)


def _cut(log: Path, size: int) -> None:
    """Leave what was on the disk."""
    assert log.stat().st_size > size
    with log.open("r+b") as file:
        file.truncate(size)


def test_every_line_of_the_table_names_tests_that_there_are():
    text = (ROOT / "docs" / "acknowledging.md").read_text(encoding="utf-8")
    section = text.partition("## What survives what")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")][1:]
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")]
    there = set(re.findall(r"^(?:async )?def (test_\w+)\(", "\n".join(sources), re.MULTILINE))
    assert len(rows) > 10
    for row in rows:
        named = set(re.findall(r"`(test_\w+)`", row))
        assert named, row
        assert named <= there

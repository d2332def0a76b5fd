"""What an acknowledgement survives: each line of the table of docs/acknowledging.md names its tests here.

An answer is *kept* when its entry is in what is served afterwards, and *lost* when it is not. What is lost is
shown too: a level that promises less is not to be believed to promise more.
"""

import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from redis import Redis as BlockingRedis

from app.embedded import Valkey
from app.ledger import keys
from app.ledger.batcher import Limits
from app.ledger.connection import connect
from app.ledger.errors import LedgerUnavailable
from app.ledger.ledger import Ledger
from app.ledger.operations import Deduct, Grant
from app.ledger.receipts import Receipt
from app.ledger.replicas import Replicas
from tests.conftest import PASSWORD
from tests.engine import Streams
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


def cut(log: Path, size: int) -> None:
    """Leave what was on the disk."""
    assert log.stat().st_size > size
    with log.open("r+b") as file:
        file.truncate(size)


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
        cut(log_of(server), on_disk)
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

"""Each runbook, after the trouble that it is for: it prints what it says, and its way back is one."""

import asyncio
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from app.up.data import read_environment
from persistence.alive import workers
from tests.cluster.servers import Cluster
from tests.folders import reachable_folder
from tests.integration.runbooks.moving import Moving
from tests.integration.runbooks.played import BOOK, Ledger, Play, fits, sections

Until = Callable[..., None]

SECRET = "whsec_MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0"

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="the runbooks are written for curl")


@pytest.fixture(scope="module")
def shared() -> Iterator[Ledger]:
    """For troubles that leave the others alone."""
    with reachable_folder() as folder:
        ledger = Ledger(folder, LASTRO_WEBHOOK_GENERIC_SECRETS=SECRET, LASTRO_STREAM_KEEP_SECONDS="0")
        ledger.start()
        yield ledger
        ledger.stop()


@pytest.fixture
def own(reachable_tmp_path: Path) -> Iterator[Ledger]:
    """For troubles that befall everybody."""
    ledger = Ledger(reachable_tmp_path, LASTRO_STREAM_KEEP_SECONDS="0")
    ledger.start()
    yield ledger
    ledger.stop()


def customer(ledger: Ledger, account: str = "ana", task: str = "job-7") -> str:
    """An account with 900 credits and a reservation of 100; its id."""
    asked(ledger, "grant", {"accountId": account, "amount": 1000})
    wanted = {"accountId": account, "amount": 100, "taskId": task, "provider": "fal"}
    return asked(ledger, "reserve", wanted)["reservation"]["id"]


def asked(ledger: Ledger, verb: str, body: dict[str, object]) -> dict[str, Any]:
    status, answer = ledger.post(f"/api/credits/{verb}", body)
    assert status in (200, 201), answer
    return answer


def redis_of(ledger: Ledger) -> Redis:
    return Redis.from_url(read_environment(ledger.data)["LASTRO_REDIS_URL"], decode_responses=True)


@contextmanager
def stopped(ledger: Ledger, part: str) -> Iterator[None]:
    """Its processes stand still meanwhile."""
    processes = ledger.parts(part)
    assert processes
    for each in processes:
        os.kill(each.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for each in processes:
            os.kill(each.pid, signal.SIGCONT)


def test_a_reservation_that_is_not_found(shared: Ledger) -> None:
    customer(shared)
    shared.post("/api/credits/confirm", {"taskId": "job-77", "provider": "fal"})
    play = Play("Reservation not found", shared)
    play.block()
    play.block()
    assert play.is_over()


def test_drift(own: Ledger) -> None:
    customer(own)
    with redis_of(own) as redis:
        (key,) = redis.scan_iter("*:account:ana")
        redis.set(key, redis.get(key).replace("900", "901"))
    play = Play("Drift", own)
    for _ in range(3):
        play.block()
    assert play.is_over()


def test_a_fence(shared: Ledger) -> None:
    assert Play.typed("lastro fence --shard 3 --reason 'a look at ana' --yes", shared).startswith(
        "shard 3 refuses"
    )
    play = Play("Fence", shared)
    play.block()
    play.block()
    assert play.is_over()


@pytest.mark.nightly("waits for a backlog, twice")
def test_a_backlog_that_grows(own: Ledger) -> None:
    with stopped(own, "app.cli worker"):
        customer(own)
        play = Play("Backlog growing", own)
        play.block()
        play.block()
    assert play.is_over()


def test_redis_is_lost(own: Ledger, until: Until) -> None:
    customer(own)
    until(lambda: journaled(own, 2))
    with redis_of(own) as redis:
        redis.flushall()
    until(lambda: own.code("/api/credits/balance?accountId=ana", own.key) == (503, "ledger_fenced"), 30)
    play = Play("Redis lost", own)
    play.block()
    play.block()
    assert play.is_over()


def journaled(ledger: Ledger, entries: int) -> bool:
    return len(ledger.get("/api/credits/transactions?accountId=ana")[1]["data"]) == entries


@pytest.mark.nightly("a ledger that is lost and adopted; tests/chaos has it as calls")
def test_postgresql_goes_back_in_time(own: Ledger, until: Until) -> None:
    """Redis' stream keeps nothing that was journaled, and PostgreSQL loses some of that."""
    customer(own)
    until(lambda: journaled(own, 2))
    own.stop()
    shutil.copytree(own.data / "postgres", own.data.parent / "older", symlinks=True)
    if os.geteuid() == 0:
        owner = (own.data / "postgres").stat()
        for each in [own.data.parent / "older", *(own.data.parent / "older").rglob("*")]:
            os.chown(each, owner.st_uid, owner.st_gid, follow_symlinks=False)
    own.start()
    for amount in (1, 2, 3):
        asked(own, "deduct", {"accountId": "ana", "amount": amount})
    until(lambda: journaled(own, 5))
    until(lambda: stream_is_empty(own))
    own.stop()
    shutil.rmtree(own.data / "postgres")
    (own.data.parent / "older").rename(own.data / "postgres")
    own.start()
    until(lambda: "lost entries" in Play.typed("lastro doctor", own), 30)
    play = Play("PostgreSQL back in time", own)
    play.block()
    play.block()
    assert play.is_over()
    until(lambda: own.get("/api/credits/balance?accountId=ana")[1].get("available") == 894)


def stream_is_empty(ledger: Ledger) -> bool:
    with redis_of(ledger) as redis:
        return all(redis.xlen(key) <= 1 for key in redis.scan_iter("*:journal"))


@pytest.mark.nightly("waits until workers are missed")
def test_workers_are_dead(shared: Ledger, until: Until) -> None:
    queues = read_environment(shared.data)["LASTRO_REDIS_URL"]
    play = Play("Dead workers", shared)
    with stopped(shared, "app.cli worker"):
        until(lambda: workers(queues) == 0, 30)
        play.block()
    until(lambda: workers(queues) == 2, 30)
    play.block()
    assert play.is_over()


def test_webhooks_are_rejected(shared: Ledger, until: Until) -> None:
    asked(shared, "grant", {"accountId": "bob", "amount": 1000})
    asked(shared, "reserve", {"accountId": "bob", "amount": 100, "taskId": "job-8", "provider": "generic"})
    Play.typed("lastro simulate generic --task job-8 --wrong-signature", shared)
    until(lambda: shared.get("/api/credits/webhooks?status=rejected")[1]["data"] != [])
    play = Play("Webhook rejections", shared)
    play.block()
    play.block()
    assert play.is_over()


def test_a_charge_is_disputed(shared: Ledger, until: Until) -> None:
    reservation = customer(shared, "cleo", "job-9")
    asked(shared, "confirm", {"reservationId": reservation})
    until(lambda: len(shared.get("/api/credits/transactions?taskId=job-9")[1]["data"]) == 2)
    play = Play("Disputed charge", shared)
    play.block()
    play.block()
    assert play.is_over()


def test_a_reservation_is_stuck(shared: Ledger, until: Until) -> None:
    customer(shared, "dora", "job-10")
    until(lambda: shared.get("/api/credits/reservations?accountId=dora")[1]["data"] != [])
    play = Play("Stuck reservation", shared)
    play.block()
    play.block()
    assert play.is_over()


def test_somebody_wants_to_be_forgotten(shared: Ledger, until: Until) -> None:
    asked(shared, "grant", {"accountId": "zoe", "amount": 5, "reason": "a present for Zoe"})
    asked(shared, "deduct", {"accountId": "zoe", "amount": 5})
    play = Play("Erasure", shared)
    play.block()
    until(lambda: stream_is_empty(shared), 30)
    until(
        lambda: (
            "still has" not in Play.typed("lastro erase --account zoe --reason r --yes </dev/null", shared)
        ),
        30,
    )
    play.block()
    assert play.is_over()


@pytest.mark.nightly("two restores and a cluster; tests/cluster has each by itself")
async def test_a_ledger_moves_to_a_cluster_and_back(reachable_tmp_path: Path) -> None:
    """What was held is still held there, and what was done there is known here."""
    with reachable_folder() as folder, Cluster(folder) as cluster:
        async with Moving(reachable_tmp_path, cluster) as ledger:
            await ledger.begin()
            play = Play("Move to a cluster", ledger, CLUSTER=cluster.url, QUEUES=ledger.valkey.url)

            async def typed(verb: str, body: str) -> str:
                call = f"curl -s $API/{verb} -H \"Authorization: Bearer $KEY\" -d '{body}'"
                return await asyncio.to_thread(play.typed, call, ledger)

            await typed("grant", '{"accountId": "ana", "amount": 1000}')
            task = '"taskId": "job-7", "provider": "fal"'
            await typed("reserve", f'{{"accountId": "ana", "amount": 100, {task}}}')
            for _ in range(2):
                await asyncio.to_thread(play.block)
            await ledger.stop()
            await asyncio.to_thread(play.block)
            await ledger.start(there=True)
            await asyncio.to_thread(play.block)
            assert '"status":"confirmed"' in await typed("confirm", f"{{{task}}}")
            await ledger.stop()
            ledger.tell(there=False)
            await asyncio.to_thread(play.block)
            assert play.is_over()
            await ledger.start(there=False)
            balance = 'curl -s $API/balance?accountId=ana -H "Authorization: Bearer $KEY"'
            assert '"available":900,"held":0' in await asyncio.to_thread(play.typed, balance, ledger)


@pytest.mark.parametrize("planned", ["Secret rotation", "Upgrade and roll-back", "Restore drill"])
def test_what_is_planned(planned: str, shared: Ledger) -> None:
    play = Play(planned, shared)
    for _ in sections()[planned]:
        play.block()


def test_every_section_is_played() -> None:
    here = Path(__file__).read_text()
    assert [heading for heading in sections() if f'"{heading}"' not in here] == []


def test_what_is_printed_is_held_against_the_book() -> None:
    assert fits("ok ... workers\n...", "ok   1   workers\nmore")
    assert not fits("ok ... workers", "ok   1   workers\nmore")
    assert "](#" in BOOK

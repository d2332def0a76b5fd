"""Providers that are silent are asked: from half of the time on, less and less often, to one ending each."""

import asyncio
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

import msgspec
import pytest

from app.ledger.operations import Cancel, Extend, Grant, Reserve
from app.webhooks.inbox import Received
from app.webhooks.receiving import Rules
from persistence import asking as module
from persistence.asking import AT_ONCE, Asking
from persistence.inbox import retrying, rows
from tests.integration.ledgers import journal_all, process
from tests.webhooks.server import Answer, serving

TTL = timedelta(seconds=600)
KEYS = {"bfl": "a key", "sync": "another"}


class Clock:
    """Set by hand."""

    now: datetime

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def ledger(database, redis_url, caller):
    async with process(database, redis_url) as ledger:
        await ledger.grant(Grant(account="ana", amount=1000))
        yield ledger


@pytest.fixture
def provider():
    """Answers about each task as `says` has it, `None`: nonsense."""
    return Provider()


class Provider:
    """What a provider's API says of each task, while its gate is open."""

    def __init__(self) -> None:
        self.says: dict[str, dict | None] = {}
        self.asked: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def answer(self, request) -> Answer:
        task = request.line.split(" ")[1].rpartition("=" if "?id=" in request.line else "/")[2]
        self.asked.append(task)
        await self.gate.wait()
        told = self.says.get(task)
        return Answer({"id": task, **told}) if told else Answer(b"<html>busy</html>")


@pytest.fixture
def asker(database, ledger, provider, clock):
    """Makes one who asks this provider, at the hand-set time."""

    @asynccontextmanager
    async def made():
        async with serving(provider.answer) as server:
            bases = dict.fromkeys(KEYS, server.url)
            async with Asking(database, ledger, KEYS, {}, bases=bases, clock=clock) as asking:
                yield asking

    return made


@pytest.fixture
def reserve(database, database_url, redis_url, ledger):
    async def made(task: str | None, provider: str | None = "bfl", amount: int = 7) -> str:
        reservation = await ledger.new_reservation_id("ana")
        await ledger.reserve(
            Reserve(
                account="ana", reservation=reservation, amount=amount, task=task, provider=provider,
                ttl_ms=int(TTL.total_seconds() * 1000),
            )
        )  # fmt: skip
        await journal_all(database_url, redis_url)
        return reservation

    return made


async def look(asking) -> None:
    await asking.turn()
    await asking.rest()


async def deadline(database, reservation: str) -> datetime:
    return await database.fetchval("SELECT expires_at FROM reservations WHERE id::text = $1", reservation)


async def test_nobody_is_asked_before_half_of_the_time_and_then_what_is_finished_settles_once(
    database, database_url, redis_url, ledger, asker, reserve, provider, clock, managed
):
    await managed.create("http://127.0.0.1:9/", ["provider.finished"], "key:test")
    good, bad = await reserve("task-good"), await reserve("task-bad", "sync")
    provider.says = {
        "task-good": {"status": "Ready", "result": {"sample": "https://a", "seed": 1.10}},
        "task-bad": {"status": "FAILED", "error": "no face"},
    }
    ends = await deadline(database, good)
    async with asker() as asking:
        clock.now = ends - TTL / 2 - timedelta(seconds=5)
        await look(asking)
        assert [] == provider.asked
        clock.now = ends - TTL / 2 + timedelta(seconds=5)
        await look(asking)
        await look(asking)
        assert {"task-good", "task-bad"} == set(provider.asked)
    assert 2 == len(provider.asked)
    done, failed = await ledger.find(good), await ledger.find(bad)
    assert ("confirmed", 7) == (done.status, done.captured)
    assert ("cancelled", "failed", "no face") == (failed.status, failed.cancel_cause, failed.cancel_reason)
    await journal_all(database_url, redis_url)
    by = await database.fetch("SELECT kind, by FROM journal WHERE kind IN ('confirmed', 'cancelled')")
    assert {("confirmed", "webhook:bfl"), ("cancelled", "webhook:sync")} == set(map(tuple, by))
    rows = await database.fetch("SELECT provider, status, reservation::text FROM webhook_inbox")
    assert {("bfl", "verified", good), ("sync", "verified", bad)} == set(map(tuple, rows))
    told = [
        msgspec.json.decode(row["body"])["data"] for row in await database.fetch("SELECT body FROM events")
    ]
    assert {good: "succeeded", bad: "failed"} == {each["reservationId"]: each["outcome"] for each in told}


async def test_what_runs_gets_more_time_when_less_than_half_is_left_and_only_once_whoever_asks(
    database, database_url, redis_url, ledger, asker, reserve, provider, clock
):
    reservation = await reserve("task-1")
    provider.says = {"task-1": {"status": "Pending"}}
    before = await deadline(database, reservation)
    clock.now = before - TTL / 2 + timedelta(seconds=1)
    async with asker() as first, asker() as second:
        await asyncio.gather(*(look(each) for each in (first, second, first, second)))
        assert ["task-1"] == provider.asked, "one of them asks"
        await database.execute("DELETE FROM asked")
        await asyncio.gather(look(first), look(second))
        await database.execute("DELETE FROM asked")
        await asyncio.gather(look(first), look(second))
    assert 1 == (await ledger.find(reservation)).extensions
    await journal_all(database_url, redis_url)
    assert await deadline(database, reservation) >= before
    row = await database.fetchrow("SELECT count(*), min(by) FROM journal WHERE kind = 'extended'")
    assert (1, "webhook:bfl") == tuple(row)


async def test_nobody_uses_up_the_key_under_which_it_gets_more_time(
    database, ledger, asker, reserve, provider, clock
):
    """A user who may extend, and would rather have the reservation run out before its work is done."""
    reservation = await reserve("task-1")
    provider.says = {"task-1": {"status": "Pending"}}
    clock.now = await deadline(database, reservation) - TTL / 2 + timedelta(seconds=1)
    ttl_ms = TTL // timedelta(milliseconds=1)
    await ledger.extend(
        Extend(
            reservation=reservation,
            ttl_ms=ttl_ms,
            key=f"asking {reservation} 0",
            fingerprint="f",
            by="user:u",
        )
    )
    async with asker() as asking:
        await look(asking)
    assert 2 == (await ledger.find(reservation)).extensions


async def test_no_answer_and_nonsense_change_nothing_and_are_asked_for_less_and_less_often(
    database, ledger, asker, reserve, provider, clock
):
    reservation = await reserve("task-1")
    stored = await ledger.find(reservation)
    ends = await deadline(database, reservation)
    clock.now = ends - TTL / 2 + timedelta(seconds=1)
    pauses = []
    async with asker() as asking:
        for _ in range(4):
            await look(asking)
            again = await database.fetchval("SELECT next_at FROM asked")
            pauses.append((again - clock.now).total_seconds())
            clock.now = again - timedelta(milliseconds=1)
            await look(asking)
            clock.now = again
        assert 4 == len(provider.asked)
        clock.now = ends + timedelta(seconds=1)
        await look(asking)
        assert 4 == len(provider.asked), "its time is over"
    assert [15.0, 30.0, 60.0] == pauses[:3]
    assert pauses[3] < 120
    assert stored == await ledger.find(reservation)


async def test_only_open_tasks_of_providers_with_a_key_are_asked_about(
    database, database_url, redis_url, ledger, asker, reserve, provider, clock
):
    await reserve(None, None)
    await reserve("of-nobody", None)
    await reserve("of-luma", "luma")
    await reserve("of-fal", "fal")
    ended = await reserve("ended")
    await ledger.cancel(Cancel(reservation=ended))
    wanted = await reserve("wanted")
    await journal_all(database_url, redis_url)
    clock.now = await deadline(database, wanted) - TTL / 4
    async with asker() as asking:
        await look(asking)
    assert ["wanted"] == provider.asked


async def test_two_who_would_ask_at_once_take_turns(database, reserve):
    reservation = await reserve("task-1")
    values = (list(KEYS), await deadline(database, reservation) - TTL / 4, 16, 15.0, 300.0, 5.0)
    async with database.acquire() as other, other.transaction():
        assert 1 == len(await other.fetch(Asking.CLAIM, *values))
        ours = asyncio.create_task(database.fetch(Asking.CLAIM, *values))
        await asyncio.wait({ours}, timeout=0.3)
    assert [] == await ours


async def test_so_many_are_asked_about_at_once_and_whoever_stops_leaves_the_others_for_later(
    database, ledger, asker, reserve, provider, clock
):
    for number in range(AT_ONCE + 4):
        last = await reserve(f"task-{number}", amount=1)
    clock.now = await deadline(database, last) - TTL / 4
    provider.gate.clear()
    async with asker() as asking:
        await asking.turn()
        await asking.turn()
        async with asyncio.timeout(20):
            while len(provider.asked) < AT_ONCE:  # noqa: ASYNC110 - others write it
                await asyncio.sleep(0.01)
        await asking.turn()
        await asking.stop()
        assert AT_ONCE == len(provider.asked)
        provider.gate.set()
        await look(asking)
        assert AT_ONCE + 4 == len(set(provider.asked))


async def test_a_webhook_that_comes_after_the_answer_is_a_duplicate_and_a_crash_in_between_is_made_good(
    database, ledger, asker, reserve, provider, clock, monkeypatch
):
    reservation = await reserve("task-1")
    provider.says = {"task-1": {"status": "Ready", "result": {}}}
    clock.now = await deadline(database, reservation) - TTL / 4

    async def dies(*_, **__):
        raise asyncio.CancelledError

    monkeypatch.setattr(module, "settle", dies)
    async with asker() as asking:
        await look(asking)
    assert "pending" == (await ledger.find(reservation)).status
    await database.execute("UPDATE webhook_inbox SET tried_at = tried_at - interval '1 minute'")
    assert 1 == await retrying.retry_slice(database, ledger, Rules({}), 5)
    assert "confirmed" == (await ledger.find(reservation)).status
    received = Received(
        provider="bfl", path=reservation, named="task-1", outcome="succeeded", word="Ready", payload="{}"
    )
    async with database.acquire() as connection:
        assert "verified" == (await rows.receive(connection, received)).status

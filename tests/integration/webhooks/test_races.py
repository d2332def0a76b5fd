"""Ten deliveries of each ending, in every order, to several processes at once: one effect."""

import asyncio
import itertools
import random
import sys
from collections import Counter
from typing import Any

import asyncpg
import msgspec
import pytest

from app.ledger.operations import Grant, Reserve
from app.settings import Settings
from app.webhooks.receiving import Rules
from persistence.birth import give_birth
from persistence.inbox.retrying import retry_slice
from tests.http.doors import FAILED, SUCCEEDED, url, with_doors
from tests.http.payments import checkout, refunded
from tests.integration.ledgers import SHARDS, journal_all, process
from tests.integration.proved import proved
from tests.processes import HOUSE

PROCESSES = 3
TIMES = 10


@pytest.fixture
async def settings(redis_url: str, database_url: str) -> Settings:
    await give_birth(database_url, redis_url, SHARDS)
    return with_doors(Settings(redis_url=redis_url, database_url=database_url, shards=SHARDS))


Delivery = tuple[str, dict[str, Any], str]


async def sent(settings: Settings, of_each: list[list[Delivery]]) -> list[str]:
    """Send these from a process each, all at the same moment. What they came to."""
    started = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.integration.webhooks.sender",
            cwd=HOUSE, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )
        for _ in of_each
    ]  # fmt: skip
    try:
        for child, deliveries in zip(started, of_each, strict=True):
            child.stdin.write(msgspec.json.encode(settings) + b"\n" + msgspec.json.encode(deliveries) + b"\n")
        for child in started:
            while b"ready\n" != (line := await child.stdout.readline()):
                assert line, "it ended"
        for child in started:
            child.stdin.write(b"go\n")
        outs = [await child.stdout.read() for child in started]
    finally:
        for child in started:
            if child.returncode is None:
                child.kill()
            await child.wait()
    return [each for out in outs for each in msgspec.json.decode(out.splitlines()[-1])]


async def hold(settings: Settings, database: asyncpg.Pool, tasks: list[str], **more: Any) -> list[str]:
    made = []
    async with process(database, settings.redis_url) as ledger:
        await ledger.grant(Grant(account="ana", amount=50 * len(tasks)))
        for task in tasks:
            id_ = await ledger.new_reservation_id("ana")
            await ledger.reserve(
                Reserve(account="ana", reservation=id_, amount=50, task=task or None, provider="sync", **more)
            )
            made.append(id_)
    return made


def dealt(deliveries: list[Delivery]) -> list[list[Delivery]]:
    """To the processes in turn."""
    return [deliveries[number::PROCESSES] for number in range(PROCESSES)]


async def test_ten_successes_and_ten_failures_in_any_order_have_one_effect(settings, database):
    """Forty reservations, each with its own order of the twenty."""
    tasks = [f"task-{number}" for number in range(40)]
    ids = await hold(settings, database, tasks)
    chance = random.Random(11)
    todo: list[Delivery] = []
    for task in tasks:
        its = [("sync", ending["sync"](task), "") for ending in (SUCCEEDED, FAILED) for _ in range(TIMES)]
        chance.shuffle(its)
        todo += its
    chance.shuffle(todo)
    told = Counter(await sent(settings, dealt(todo)))
    assert len(todo) == sum(told.values())
    assert told.keys() <= {"verified", "duplicate", "conflict"}
    await journal_all(settings.database_url, settings.redis_url)
    found = await proved(database)
    endings = Counter(each.reservation for each in found.of("confirmed") + found.of("cancelled"))
    assert dict.fromkeys(ids, 1) == endings
    confirmed = {each.reservation for each in found.of("confirmed")}
    assert 50 * (len(ids) - len(confirmed)) == found.accounts["ana"].available
    rows = await database.fetch("SELECT task, outcome, status, reservation, deliveries FROM webhook_inbox")
    assert 2 * len(tasks) == len(rows)
    for task, id_ in zip(tasks, ids, strict=True):
        its = {row["outcome"]: row for row in rows if row["task"] == task}
        won = "succeeded" if id_ in confirmed else "failed"
        lost = "failed" if won == "succeeded" else "succeeded"
        assert ("verified", "conflict") == (its[won]["status"], its[lost]["status"])
        # One that PostgreSQL did not answer in time may be counted twice, and never not at all.
        assert TIMES <= min(row["deliveries"] for row in its.values())
        assert {id_} == {row["reservation"] for row in its.values()}


async def test_the_common_door_the_callback_url_and_the_workers_at_once_have_one_effect(settings, database):
    """And the shop confirms too, with another amount."""
    tasks = [f"task-{number}" for number in range(12)]
    ids = await hold(settings, database, tasks)
    todo = [
        ("sync", SUCCEEDED["sync"](task), path)
        for task, id_ in zip(tasks, ids, strict=True)
        for path in ("", url("sync", id_))
        for _ in range(5)
    ]
    random.Random(5).shuffle(todo)

    async with process(database, settings.redis_url, seconds=20.0) as ledger:
        sending = asyncio.create_task(sent(settings, dealt(todo)))
        while not sending.done():
            await asyncio.wait({sending}, timeout=0.2)
            await database.execute("UPDATE webhook_inbox SET tried_at = now() - interval '1 minute'")
            await retry_slice(database, ledger, Rules({}), 2.0)
        told = sending.result()
    assert set(told) <= {"verified", "duplicate"}
    await journal_all(settings.database_url, settings.redis_url)
    found = await proved(database)
    assert dict.fromkeys(ids, 1) == Counter(each.reservation for each in found.of("confirmed"))
    assert 0 == found.accounts["ana"].available
    assert {"verified": 24} == Counter(
        row["status"] for row in await database.fetch("SELECT status FROM webhook_inbox")
    )


def test_every_order_of_few_is_among_those_that_are_dealt():
    """What the random orders stand for: all six of a success, its repetition and a failure."""
    orders = {tuple(random.Random(seed).sample("ssf", 3)) for seed in range(100)}
    assert set(itertools.permutations("ssf")) == orders


async def test_a_payment_from_everywhere_is_granted_once(settings, database):
    paid = [("stripe", checkout("100", f"pi_{number}"), "") for number in range(5) for _ in range(6)]
    back = [
        ("stripe", refunded(*step, payment="pi_0"), "") for step in ((0, 333), (333, 666)) for _ in range(6)
    ]
    settings = msgspec.structs.replace(settings, webhook_stripe_clawback="on")
    todo = paid + back
    random.Random(3).shuffle(todo)
    await sent(settings, dealt(todo))
    async with process(database, settings.redis_url) as ledger:
        for _ in range(2):
            await retry_slice(database, ledger, Rules({}, takes_back=True), 5.0)
    await journal_all(settings.database_url, settings.redis_url)
    found = await proved(database)
    assert 5 == len(found.of("granted"))
    assert [-33, -33] == [each.amount for each in found.of("adjusted")]
    assert 500 - 66 == found.accounts["alice"].available

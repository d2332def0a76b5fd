"""Deliveries to receivers that are down, slow, broken or malicious: nothing is lost, nobody waits."""

import asyncio
import time
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from app.events import EventFilter, GrantLapsing
from persistence.events import delivering
from persistence.events.delivering import AT_ONCE, BACKOFF_SECONDS, Delivering
from persistence.events.outbox import Made, Outbox
from persistence.events.sending import Sender
from persistence.events.watching import forget
from tests.integration.events.receiver import (
    HandClock,
    answers,
    hangs,
    is_signed,
    never_ends,
    receiving,
    says,
    trickles,
)

LATER = "2026-11-30T00:00:00.000Z"


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@asynccontextmanager
async def worker(database, clock, *, answer_seconds: float = 0.3):
    """What one process delivers with; in the end it is stopped wherever it is."""
    async with Sender(private=True, answer_seconds=answer_seconds) as sender:
        delivering = Delivering(database, sender, clock)
        try:
            yield delivering
        finally:
            await delivering.stop()


async def deliver(database, clock, **options) -> None:
    """Whatever is due, until nothing is any more."""
    async with worker(database, clock, **options) as its:
        await its.go_on()
        await its.rest()


async def put(database, clock, number: int = 1) -> None:
    """So many events."""
    lapsing = [
        GrantLapsing(
            account_id=f"a{each}", bucket="plan", available=each, expires_at="2026-11-30T00:00:00.000Z"
        )
        for each in range(number)
    ]
    made = [Made("grant.lapsing", each.account_id, clock(), each) for each in lapsing]
    await Outbox.put_all(database, made, clock())


async def log(database) -> list[tuple[str, int, int | None, str | None]]:
    rows = await database.fetch("SELECT state, attempts, status, error FROM event_deliveries ORDER BY event")
    return [tuple(row) for row in rows]


async def states(database) -> dict[str, int]:
    return dict(await database.fetch("SELECT state, count(*) FROM event_deliveries GROUP BY state"))


async def test_an_event_comes_signed_once_as_the_log_has_it(database, managed, clock):
    async with receiving() as receiver:
        _, secret = await managed.create(receiver.url + "?shop=1", [], "key:test")
        await put(database, clock)
        for _ in range(3):
            await deliver(database, clock)
        (got,) = receiver.got
    (event,) = (await managed.log(EventFilter())).data
    assert (event.id, event.body) == (got.id, got.body.decode())
    assert is_signed(got, secret)
    assert not is_signed(got, "whsec_" + "A" * 43 + "=")
    assert ("application/json", f"127.0.0.1:{receiver.port}") == (
        got.headers["content-type"],
        got.headers["host"],
    )
    assert {"type": "grant.lapsing", "timestamp": "2026-11-22T12:00:00.000Z"} == {
        name: got.event[name] for name in ("type", "timestamp")
    }
    assert [("delivered", 1, 200, None)] == await log(database)


async def test_after_an_hour_in_which_the_receiver_was_down_everything_arrives_signed_and_in_the_log(
    database, managed, clock
):
    async with receiving() as receiver:
        port = receiver.port
    _, secret = await managed.create(f"http://127.0.0.1:{port}/", [], "key:test")
    for _ in range(15):
        await put(database, clock, 8)
        await deliver(database, clock)
        clock.move(minutes=4)
    assert {"waiting": 120} == await states(database)
    assert {"could not connect"} == {error for *_, error in await log(database)}
    async with receiving(port) as receiver:
        for _ in range(14):
            await deliver(database, clock)
            clock.move(minutes=5)
    assert {"delivered": 120} == await states(database)
    logged = await database.fetch("SELECT id::text, body FROM events")
    assert sorted(map(tuple, logged)) == sorted((each.id, each.body.decode()) for each in receiver.got)
    assert all(is_signed(each, secret) for each in receiver.got)


async def test_what_is_refused_for_three_days_is_dead_and_comes_again_when_an_operator_says_so(
    database, managed, clock
):
    async with receiving() as receiver:
        receiver.behave = answers(500)
        await managed.create(receiver.url, [], "key:test")
        await put(database, clock)
        began, times = clock(), []
        while "waiting" in await states(database):
            before = len(receiver.got)
            await deliver(database, clock)
            if len(receiver.got) > before:
                times.append(clock() - began)
            clock.now = await database.fetchval("SELECT due_at FROM event_deliveries")
        assert 1 + len(BACKOFF_SECONDS) == len(receiver.got) == len(times)
        assert timedelta(seconds=5) <= times[1] < timedelta(seconds=6)
        assert timedelta(days=2.9) < times[-1] < timedelta(days=3.6)
        assert [("dead", 15, 500, "it answered 500")] == await log(database)
        await deliver(database, clock)
        assert 15 == len(receiver.got)
        receiver.behave = answers(204)
        (event,) = (await managed.log(EventFilter(state="dead"))).data
        await managed.replay(event.id, None)
        clock.now = delivering.now()
        await deliver(database, clock)
        assert {event.id} == {each.id for each in receiver.got}
        assert [("delivered", 1, 204, None)] == await log(database)


async def test_who_answers_410_is_told_nothing_more(database, managed, clock):
    async with receiving() as gone, receiving() as there:
        gone.behave = answers(410)
        endpoint, _ = await managed.create(gone.url, [], "key:test")
        await managed.create(there.url, [], "key:test")
        await put(database, clock)
        await deliver(database, clock)
        await put(database, clock, 3)
        clock.move(days=1)
        await deliver(database, clock)
        assert (1, 4) == (len(gone.got), len(there.got))
    assert {"dead": 1, "delivered": 4} == await states(database)
    off = next(each for each in await managed.endpoints() if each.id == endpoint.id)
    assert (False, "It answered 410 (gone).") == (off.enabled, off.why_off)


async def redirected(writer) -> None:
    await answers(302, f"location: http://127.0.0.1:{redirected.port}/")(writer)


HEAD = b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 100_000
BAD = {
    "hangs": (hangs, None, "no answer within 0.3 s"),
    "trickles": (trickles, None, "no answer within 0.3 s"),
    "says nothing": (says(b""), None, "its answer is not HTTP"),
    "is not HTTP": (says(b"\x00\xff<script>" * 100), None, "its answer is not HTTP"),
    "has a head without an end": (says(HEAD), None, "its answer is not HTTP"),
    "says a status that is none": (says(b"HTTP/1.1 999999 X\r\n\r\n"), None, "its answer is not HTTP"),
    "is broken": (answers(503), 503, "it answered 503"),
    "redirects": (redirected, 302, "it answered 302, and redirects are not followed"),
    "has not changed": (answers(304), 304, "it answered 304, and redirects are not followed"),
    "wants a proxy": (answers(305), 305, "it answered 305, and redirects are not followed"),
}  # fmt: skip


async def test_a_bad_receiver_is_tried_again_and_the_log_says_why_in_our_own_words(database, managed, clock):
    async with receiving() as elsewhere, receiving() as receiver:
        redirected.port = elsewhere.port
        await managed.create(receiver.url, [], "key:test")
        await put(database, clock)
        for number, (what, (behave, status, error)) in enumerate(BAD.items(), 1):
            receiver.behave = behave
            await deliver(database, clock)
            assert [("waiting", number, status, error)] == await log(database), what
            assert number == len(receiver.got), what
            clock.now = await database.fetchval("SELECT due_at FROM event_deliveries")
        assert [] == elsewhere.got


async def test_a_body_without_an_end_is_not_read(database, managed, clock):
    async with receiving() as receiver:
        receiver.behave = never_ends
        await managed.create(receiver.url, [], "key:test")
        await put(database, clock)
        began = time.monotonic()
        await deliver(database, clock, answer_seconds=60)
        assert time.monotonic() - began < 20
        assert [("delivered", 1, 200, None)] == await log(database)


async def test_a_receiver_that_hangs_delays_no_other_and_has_only_so_many_connections(
    database, managed, clock, until
):
    async with receiving() as slow, receiving() as quick:
        slow.behave = hangs
        await managed.create(slow.url, [], "key:test")
        await managed.create(quick.url, [], "key:test")
        await put(database, clock, 3 * AT_ONCE)
        async with worker(database, clock, answer_seconds=60) as its:
            async with asyncio.timeout(30):
                while len(quick.got) < 3 * AT_ONCE or len(slow.got) < AT_ONCE:
                    await its.go_on()
                    await asyncio.sleep(0.02)
            assert AT_ONCE == slow.open == len(slow.got)


async def test_whoever_dies_between_claiming_and_noting_loses_nothing(database, managed, clock):
    async with receiving() as receiver:
        await managed.create(receiver.url, [], "key:test")
        await put(database, clock, 3)
        receiver.behave = hangs
        async with worker(database, clock, answer_seconds=60) as its:
            await its.go_on()
            async with asyncio.timeout(30):
                while len(receiver.got) < 3:  # noqa: ASYNC110 - others write it
                    await asyncio.sleep(0.01)
        receiver.behave = answers(200)
        await deliver(database, clock)
        assert 3 == len(receiver.got), "whoever has claimed them may still be alive"
        clock.move(seconds=delivering.CLAIMED_SECONDS)
        await deliver(database, clock)
    assert [("delivered", 2, 200, None)] * 3 == await log(database)
    ids = [each.id for each in receiver.got]
    assert (6, 3) == (len(ids), len(set(ids)))


async def test_what_another_worker_is_claiming_is_passed_by(database, managed, clock):
    endpoint, _ = await managed.create("http://127.0.0.1:9/", [], "key:test")
    await put(database, clock, 2 * AT_ONCE)
    until = clock() + timedelta(seconds=20)
    async with database.acquire() as other, other.transaction():
        theirs = await other.fetch(Delivering.CLAIM, endpoint.id, clock(), AT_ONCE, until)
        async with asyncio.timeout(5):
            ours = await database.fetch(Delivering.CLAIM, endpoint.id, clock(), AT_ONCE, until)
    assert 2 * AT_ONCE == len({row["event"] for row in (*theirs, *ours)})


async def test_many_workers_send_each_event_once(database, managed, clock):
    async with receiving() as receiver:
        await managed.create(receiver.url, [], "key:test")
        await put(database, clock, 60)
        await asyncio.gather(*(deliver(database, clock, answer_seconds=30) for _ in range(4)))
        assert 60 == len(receiver.got) == len({each.id for each in receiver.got})


async def test_what_waits_while_an_endpoint_is_off_goes_out_when_it_is_on_and_not_to_where_it_was(
    database, managed, clock
):
    async with receiving() as old, receiving() as new:
        old.behave = answers(500)
        endpoint, _ = await managed.create(old.url, [], "key:test")
        await put(database, clock)
        await deliver(database, clock)
        await managed.change(endpoint.id, url=None, types=None, enabled=False)
        clock.move(days=1)
        await put(database, clock)
        await deliver(database, clock)
        await managed.change(endpoint.id, url=new.url, types=None, enabled=True)
        await deliver(database, clock)
        assert (1, 1) == (len(old.got), len(new.got))
        assert old.got[0].id == new.got[0].id


async def test_events_go_after_thirty_days_but_for_what_still_waits(database, managed, clock):
    async with receiving() as receiver:
        on, _ = await managed.create(receiver.url, [], "key:test")
        await put(database, clock, 2)
        await deliver(database, clock)
        await put(database, clock, 1)
        clock.move(days=29)
        assert 0 == await forget(database, clock())
        clock.move(days=2)
        assert 2 == await forget(database, clock())
        assert {"waiting": 1} == await states(database)
        await managed.change(on.id, url=None, types=None, enabled=False)
        assert 1 == await forget(database, clock())

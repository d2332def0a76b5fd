"""What PostgreSQL tells the engine, and that its absence is told as such and in time."""

import asyncio
import os
import signal
import time
from contextlib import suppress
from datetime import timedelta

import asyncpg
import pytest

from app.embedded import Postgres
from app.ledger.backing import BackingUnavailable, NotAdmitted
from app.ledger.entries import Notes
from app.ledger.replies import Reservation
from app.ledger.shards import new_reservation_id
from persistence.backing import PostgresBacking
from persistence.pool import ANSWER_SECONDS, answering, open_pool
from persistence.silence import MOMENT_SECONDS
from tests.hanging import hanging
from tests.integration.rows import MORNING, MORNING_MS, Rows

RESERVATION = """
INSERT INTO reservations (id, shard, account, status, reserved, captured, released, held, expires_at,
                          created_at, settled_at, cancel_cause, task, provider, model, reserved_seq,
                          bound_seq, ended_seq)
VALUES ($1::text::uuid, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)
"""


async def admitted():
    raise NotAdmitted("as the admission says")


@pytest.fixture
def backing(database):
    return PostgresBacking(database, admitted)


@pytest.fixture
def rows(database):
    return Rows(database)


async def hold(database, rows, account="acc-1", task=None, provider=None, after_ms=0, bound_after_ms=None):
    """A pending reservation of 13 credits as the projections have it."""
    at = MORNING + timedelta(milliseconds=after_ms)
    reservation = new_reservation_id(3, MORNING_MS + after_ms)
    at_once = {"task": task, "provider": provider} if bound_after_ms is None else {}
    shard, reserved, _ = await rows.append(
        account, kind="reserved", amount=13, held=13, reservation=reservation, after_ms=after_ms, **at_once
    )
    bound = None
    if bound_after_ms is not None:
        _, bound, _ = await rows.append(
            account, kind="bound", amount=0, reservation=reservation, task=task, provider=provider,
            after_ms=bound_after_ms,
        )  # fmt: skip
    await database.execute(
        RESERVATION, reservation, shard, account, "pending", 13, 0, 0, 13, at + timedelta(seconds=60), at,
        None, None, task, provider, None, reserved, bound, None,
    )  # fmt: skip
    return reservation


async def test_an_account_is_known_once_the_journal_has_seen_it(backing, rows):
    assert not await backing.accounts_known(["acc-1"])
    await rows.append("acc-1")
    assert {"acc-1"} == await backing.accounts_known(["acc-1", "acc-2"])
    assert not await backing.accounts_known(["ACC-1"])


async def test_an_entry_comes_back_as_it_was_written_with_its_notes(backing, rows):
    notes = Notes(salt="", reason="bônus", metadata={"order": "7"})
    shard, sequence, entry = await rows.append("acc-1", notes=notes)
    found = await backing.recorded([(shard, sequence), (shard, sequence + 1)])
    recorded = found[shard, sequence]
    assert (sequence, entry) == (recorded.sequence, recorded.entry)
    assert '"reason":"bônus"' in recorded.notes
    assert 1 == len(found)


async def test_an_entry_without_notes_has_none(backing, rows):
    shard, sequence, _ = await rows.append("acc-1")
    assert (await backing.recorded([(shard, sequence)]))[shard, sequence].notes is None


async def test_an_open_reservation_is_told_to_the_millisecond(backing, database, rows):
    reservation = await hold(database, rows, task="t-1", provider="fal")
    assert Reservation(
        format=1, id=reservation, account="acc-1", status="pending", reserved=13, captured=0, charged=0,
        released=0, held=13, legs=[], expires_at_ms=MORNING_MS + 60_000, created_at_ms=MORNING_MS,
        reserved_sequence=1, task="t-1", provider="fal",
    ) == (await backing.reservations([reservation]))[reservation]  # fmt: skip


async def test_an_ended_reservation_brings_the_texts_of_its_entries(backing, database, rows):
    made = Notes(salt="", resource="img-1", reason="why reserved", metadata={"a": "b"})
    ended = Notes(salt="", reason="why cancelled")
    reservation = new_reservation_id(3, MORNING_MS)
    shard, reserved_at, _ = await rows.append("acc-1", kind="reserved", reservation=reservation, notes=made)
    _, bound_at, _ = await rows.append("acc-1", kind="bound", notes=Notes(salt="", resource="img-2"))
    _, ended_at, _ = await rows.append("acc-1", kind="cancelled", reservation=reservation, notes=ended)
    await database.execute(
        RESERVATION, reservation, shard, "acc-1", "cancelled", 13, 0, 13, 0, MORNING, MORNING,
        MORNING, "requested", "t-1", None, "video", reserved_at, bound_at, ended_at,
    )  # fmt: skip
    found = (await backing.reservations([reservation]))[reservation]
    assert ("requested", "why cancelled") == (found.cancel_cause, found.cancel_reason)
    assert ("img-2", {"a": "b"}, "video") == (found.resource, found.metadata, found.model)
    assert (reserved_at, bound_at, ended_at) == (
        found.reserved_sequence, found.bound_sequence, found.ended_sequence
    )  # fmt: skip


@pytest.mark.parametrize(
    "reservation", [new_reservation_id(3, MORNING_MS), "nonsense", ""], ids=["unknown", "nonsense", "empty"]
)
async def test_a_reservation_that_nobody_made_is_none(backing, reservation):
    assert {} == await backing.reservations([reservation])


async def test_a_task_is_found_in_the_name_space_of_its_provider_only(backing, database, rows):
    here = await hold(database, rows, "acc-1", "t-1", "fal")
    there = await hold(database, rows, "acc-2", "t-1", None)
    found = await backing.tasks([("kling", "t-1"), (None, "t-1"), ("fal", "t-1"), ("fal", "t-2")])
    assert {("fal", "t-1"): here, (None, "t-1"): there} == found


async def test_a_task_bound_twice_leads_to_the_latest_binding(backing, database, rows):
    bound_late = await hold(database, rows, "acc-1", "t-1", "fal", after_ms=0, bound_after_ms=9_000)
    await hold(database, rows, "acc-2", "t-1", "fal", after_ms=5_000)
    assert {("fal", "t-1"): bound_late} == await backing.tasks([("fal", "t-1")])


async def test_admission_is_asked_of_whoever_admits(backing):
    with pytest.raises(NotAdmitted, match="as the admission says"):
        await backing.admit()


async def test_without_postgresql_every_question_is_answered_as_unavailable(own_postgres: Postgres):
    pool = await open_pool(own_postgres.url)
    backing = PostgresBacking(pool, admitted)
    assert not await backing.accounts_known(["acc-1"])
    own_postgres.kill()
    for question in (
        backing.accounts_known(["acc-1"]),
        backing.recorded([(0, 1)]),
        backing.reservations([new_reservation_id(0, MORNING_MS)]),
        backing.tasks([(None, "t-1")]),
    ):
        with pytest.raises(BackingUnavailable):
            await question
    own_postgres.restart()
    assert not await backing.accounts_known(["acc-1"])
    await pool.close()


async def test_a_pool_is_made_where_nobody_listens_and_connects_when_somebody_does(own_postgres: Postgres):
    own_postgres.kill()
    pool = await open_pool(own_postgres.url)
    with pytest.raises(BackingUnavailable):
        await PostgresBacking(pool, admitted).accounts_known(["acc-1"])
    own_postgres.restart()
    assert not await PostgresBacking(pool, admitted).accounts_known(["acc-1"])
    await pool.close()


async def test_a_postgresql_that_hangs_is_unavailable_in_bounded_time_and_is_used_again_afterwards(database):
    async with database.acquire() as other, other.transaction():
        await other.execute("LOCK TABLE accounts")
        began = time.monotonic()
        with pytest.raises(BackingUnavailable):
            await PostgresBacking(database, admitted).accounts_known(["acc-1"])
        assert time.monotonic() - began < ANSWER_SECONDS + 1
    assert not await PostgresBacking(database, admitted).accounts_known(["acc-1"])


async def test_a_postgresql_that_is_stopped_is_unavailable_in_bounded_time(database_url):
    pool = await open_pool(database_url, connections_max=1)
    backing = PostgresBacking(pool, admitted)
    async with answering(pool) as connection:
        process = await connection.fetchval("SELECT pg_backend_pid()")
    os.kill(process, signal.SIGSTOP)
    try:
        began = time.monotonic()
        with pytest.raises(BackingUnavailable):
            await backing.accounts_known(["acc-1"])
        assert time.monotonic() - began < ANSWER_SECONDS + 1
    finally:
        os.kill(process, signal.SIGCONT)
    assert not await backing.accounts_known(["acc-1"])
    await pool.close()


async def away_after_seconds(backing: PostgresBacking) -> float:
    began = time.monotonic()
    with pytest.raises(BackingUnavailable, match="PostgreSQL is away"):
        await backing.accounts_known(["acc-1"])
    return time.monotonic() - began


async def test_a_postgresql_that_hangs_keeps_somebody_waiting_once_and_is_heard_when_it_answers(
    own_postgres: Postgres,
):
    pool = await open_pool(own_postgres.url)
    backing = PostgresBacking(pool, admitted)
    assert not await backing.accounts_known(["acc-1"])
    with hanging(own_postgres):
        assert 1 < await away_after_seconds(backing) < ANSWER_SECONDS + 1
        for _ in range(3):
            assert await away_after_seconds(backing) < MOMENT_SECONDS + 0.5
    async with asyncio.timeout(ANSWER_SECONDS + 5):
        while True:
            with suppress(BackingUnavailable):
                assert not await backing.accounts_known(["acc-1"])
                break
    await pool.close()


async def test_nobody_listens_any_more_once_the_pool_is_closed(own_postgres: Postgres):
    pool = await open_pool(own_postgres.url)
    with hanging(own_postgres):
        await away_after_seconds(PostgresBacking(pool, admitted))
        pool.terminate()
        (listening,) = [each for each in asyncio.all_tasks() if each.get_name() == "lastro-listening"]
        await asyncio.wait_for(listening, ANSWER_SECONDS + 5)


async def test_tls_is_demanded_where_the_url_says_so_and_only_there(database_url):
    for url, works in ((database_url, True), (f"{database_url}?sslmode=require", False)):
        pool = await open_pool(url)
        if works:
            assert not await PostgresBacking(pool, admitted).accounts_known(["acc-1"])
        else:
            with pytest.raises(BackingUnavailable, match="rejected SSL"):
                await PostgresBacking(pool, admitted).accounts_known(["acc-1"])
        await pool.close()


async def test_a_database_without_tables_is_unavailable_and_a_wrong_statement_is_a_bug(
    empty_database_url, database
):
    pool = await open_pool(empty_database_url)
    with pytest.raises(BackingUnavailable):
        await PostgresBacking(pool, admitted).accounts_known(["acc-1"])
    await pool.close()
    with pytest.raises(asyncpg.PostgresSyntaxError):
        async with answering(database) as connection:
            await connection.execute("SELEC 1")
    with pytest.raises(asyncpg.DataError):
        async with answering(database) as connection:
            await connection.fetchval("SELECT $1::int", "one")

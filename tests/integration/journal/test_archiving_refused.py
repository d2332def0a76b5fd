"""A month that cannot go to another disk as it was written stays where it is, and the text says why (I11).

What was thought of: rows, notes or a half copy that were changed; tables that hang on it; two who do it at
once; months that are not over; no such place.
"""

from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from persistence.archiving import ArchiveRefused, chosen, move, tablespace_for
from persistence.archiving.copy import Copy
from persistence.calendar import months
from persistence.session import connect
from persistence.verify import verify
from tests.integration.backup.books import tamper
from tests.integration.journal.archives import (
    COLD,
    OWN,
    Killed,
    connection,
    killed_at,
    left_over,
    month,
    rows_of,
)
from tests.integration.journal.workers import SHARDS, keep_journal
from tests.integration.streams import forge, ms

__all__ = ["connection", "month"]

LAST = "(1, (SELECT max(seq) FROM journal WHERE shard = 1))"

CHANGED = {
    "an entry": "UPDATE journal SET entry = entry || ' ' WHERE (shard, seq) = (1, 5)",
    "a column": "UPDATE journal SET amount = amount + 1 WHERE (shard, seq) = (1, 5)",
    "a time": "UPDATE journal SET at = at + interval '1 ms' WHERE (shard, seq) = (1, 5)",
    "a row": "DELETE FROM journal WHERE (shard, seq) = (1, 5)",
    "the end": f"DELETE FROM journal WHERE (shard, seq) = {LAST}",
    "the first": "DELETE FROM journal WHERE (shard, seq) = (1, 1)",
    "a shard": "DELETE FROM journal WHERE shard = 1",
    "a hash": "UPDATE journal SET hash = sha256('x') WHERE (shard, seq) = (1, 5)",
    "the end with its hash": f"""
    UPDATE journal j SET entry = changed, hash = sha256(
      (SELECT hash FROM journal b WHERE (b.shard, b.seq) = (j.shard, j.seq - 1))
      || int2send(1::smallint) || int8send(j.seq) || convert_to(changed, 'UTF8'))
    FROM (SELECT shard, seq, replace(entry, '{{"v":1,', '{{"v":1,"more":1,') AS changed FROM journal) AS its
    WHERE (its.shard, its.seq) = (j.shard, j.seq) AND (j.shard, j.seq) = {LAST}
    """,
    "a stranger": """
    INSERT INTO journal SELECT (jsonb_populate_record(j, '{"shard": 77, "version": 1000000}')).*
    FROM journal j WHERE (shard, seq) = (1, 5)
    """,
    "notes": "UPDATE notes SET text = text || ' ' WHERE shard = 1",
}


@pytest.mark.parametrize("what", CHANGED)
async def test_a_month_that_is_not_as_it_was_written_stays(month, connection, what):
    await tamper(connection, CHANGED[what])
    rows = await rows_of(connection)
    with pytest.raises(ArchiveRefused, match="stays where it is: a proof failed"):
        await move(connection, (await month()).name, COLD)
    assert (rows, OWN) == (await rows_of(connection), (await month()).tablespace)
    assert [] == await left_over(connection)


@pytest.mark.parametrize("what", [each for each in CHANGED if each not in ("a shard", "a stranger", "notes")])
async def test_a_half_copy_that_was_changed_takes_nobodys_place(month, connection, what):
    before, rows = await month(), await rows_of(connection)
    with pytest.raises(Killed):
        await move(connection, before.name, COLD, barrier=killed_at("after proof"))
    await tamper(connection, CHANGED[what].replace("journal", f"{before.name}_copy"))
    if what != "the end":  # that is copied again
        with pytest.raises(ArchiveRefused, match="the same command makes a new one"):
            await move(connection, before.name, COLD)
        assert (OWN, []) == ((await month()).tablespace, await left_over(connection))
    assert COLD == (await move(connection, before.name, COLD)).after
    assert rows == await rows_of(connection)


async def test_a_copy_that_has_what_the_month_has_lost_is_kept(month, connection):
    before = await month()
    with pytest.raises(Killed):
        await move(connection, before.name, COLD, barrier=killed_at("after proof"))
    await tamper(connection, CHANGED["the end"])
    with pytest.raises(ArchiveRefused, match="it is kept, and may have what is missing"):
        await move(connection, before.name, COLD)
    assert before.rows == await connection.fetchval(f"SELECT count(*) FROM {before.name}_copy")


async def test_a_disk_that_is_full_is_not_kept_full(month, connection, monkeypatch):
    async def fill(*_: object) -> None:
        raise asyncpg.DiskFullError("no room")

    monkeypatch.setattr(Copy, "_fill", fill)
    with pytest.raises(ArchiveRefused, match="the disk is full"):
        await move(connection, (await month()).name, COLD)
    assert [] == await left_over(connection)


@pytest.fixture
async def months_of(month, redis, caller, worker, connection):
    """Three months, each with rows of all shards."""
    for shard in range(SHARDS):
        await caller.grant(shard)
        for days in (40, 40, 40, 80, 80):
            await forge(redis, shard, at_ms=ms(datetime.now(UTC) + timedelta(days=days)))
    await keep_journal(worker)
    return [each for each in await months(connection) if each.rows]


async def test_a_month_between_others_goes_and_comes_back(months_of, connection):
    rows = await rows_of(connection)
    assert 3 == len(months_of)
    for each in months_of:
        assert (await move(connection, each.name, COLD)).rows == each.rows
    assert rows == await rows_of(connection)
    assert [] == (await verify(connection, since=1)).findings
    assert (await move(connection, months_of[1].name, OWN)).is_copied
    assert rows == await rows_of(connection)


OF_SHARD = "DELETE FROM {} WHERE shard = 1"
ENDS = {
    "first": f"{OF_SHARD} AND seq = (SELECT min(seq) FROM {{}} WHERE shard = 1)",
    "last": f"{OF_SHARD} AND seq = (SELECT max(seq) FROM {{}} WHERE shard = 1)",
    "all": OF_SHARD,
}


@pytest.mark.parametrize("what", ENDS)
async def test_a_month_that_was_cut_off_beside_another_one_stays(months_of, connection, what):
    _, middle, _ = months_of
    await tamper(connection, ENDS[what].format(middle.name, middle.name))
    with pytest.raises(ArchiveRefused, match="Of shard 1 the month should have the rows after"):
        await move(connection, middle.name, COLD)
    assert [] == await left_over(connection)


async def test_a_month_after_which_the_chain_does_not_go_on_stays(months_of, connection):
    _, middle, last = months_of
    await tamper(connection, f"UPDATE {last.name} SET hash = sha256('x') WHERE shard = 1")
    with pytest.raises(ArchiveRefused, match=r"What follows row .* of shard 1 does not go on from it"):
        await move(connection, middle.name, COLD)


async def test_what_hangs_on_the_month_is_told(month, connection):
    name = (await month()).name
    await connection.execute(f"CREATE VIEW of_mine AS SELECT count(*) FROM {name}")
    with pytest.raises(ArchiveRefused, match=f"{name} stays where it is: view of_mine depends on table"):
        await move(connection, (await month()).name, COLD)
    assert OWN == (await month()).tablespace


async def test_two_do_not_move_months_at_once(month, connection, database_url):
    other = await connect(database_url)

    async def another(_step: str) -> None:
        with pytest.raises(ArchiveRefused, match="Another process moves months"):
            await move(other, (await month()).name, COLD)

    try:
        await move(connection, (await month()).name, COLD, barrier=another)
    finally:
        await other.close()


async def test_only_what_is_over_is_chosen(month, connection):
    this = await month()
    with pytest.raises(ArchiveRefused, match=f"{this.name} stays where it is: it is not over"):
        await chosen(connection, [this.name])
    with pytest.raises(ArchiveRefused, match=r"no month journal_1999_01\. `lastro months` names those"):
        await chosen(connection, ["journal_1999_01"])
    await connection.execute(
        "SELECT make_journal_months(ARRAY[now() - interval '3 months', now() - interval '15 months'])"
    )
    early, late = [each.name for each in await months(connection)][:2]
    assert [early, late] == [each.name for each in await chosen(connection, [late, early])]
    assert [early] == [each.name for each in await chosen(connection, over_for_months=12)]
    assert [early, late] == [each.name for each in await chosen(connection, over_for_months=1)]
    assert [] == await chosen(connection, over_for_months=24)


async def test_a_place_that_is_none_is_told_with_those_there_are(connection):
    assert (COLD, OWN) == (await tablespace_for(connection, COLD), await tablespace_for(connection, None))
    with pytest.raises(ArchiveRefused, match=r"no tablespace frozen; it has cold, pg_default\. Make one"):
        await tablespace_for(connection, "frozen")
    await connection.execute("DROP ROLE IF EXISTS mover; CREATE ROLE mover")
    try:
        await connection.execute("SET ROLE mover")
        with pytest.raises(
            ArchiveRefused,
            match=r"mover may not .* GRANT CREATE ON TABLESPACE cold TO mover",
        ):
            await tablespace_for(connection, COLD)
    finally:
        await connection.execute("RESET ROLE; DROP ROLE mover")

"""`lastro months`: what the journal has month by month, and what of it a backup has."""

import asyncio
import json
from datetime import UTC, datetime

import asyncpg
import pytest

from persistence.backup.export import export
from persistence.backup.folder import export_folder
from persistence.backup.manifest import BackupRefused
from persistence.calendar import months
from tests.integration.backup.books import tamper
from tests.integration.backup.test_commands import lastro
from tests.integration.journal.archives import make_cold

__all__ = ["lastro"]

OLD = datetime(2026, 1, 15, tzinfo=UTC)

# The first rows of each shard were written in January: in a shard, time never goes back.
AGED = f"UPDATE journal SET at = timestamptz '{OLD.isoformat()}' WHERE seq <= 20"


@pytest.fixture
async def aged(past_url):
    """A connection to a ledger that has rows of January, and of now."""
    connection = await asyncpg.connect(past_url)
    await connection.execute("SELECT make_journal_months(ARRAY[$1::timestamptz])", OLD)
    await tamper(connection, AGED)
    yield connection
    await connection.close()


async def test_each_month_tells_its_rows_and_its_size(aged):
    found = {each.name: each for each in await months(aged)}
    counted = "SELECT tableoid::regclass::text AS name, count(*) FROM journal GROUP BY 1"
    there = dict(await aged.fetch(counted))
    assert {"journal_2026_01": 60} == {name: rows for name, rows in there.items() if name < "journal_2026_02"}
    assert there == {name: each.rows for name, each in found.items() if each.rows}
    january = found["journal_2026_01"]
    assert (january.since, january.until) == (
        datetime(2026, 1, 1, tzinfo=UTC),
        datetime(2026, 2, 1, tzinfo=UTC),
    )
    assert january.bytes == await aged.fetchval("SELECT pg_total_relation_size('journal_2026_01')")
    assert january.kept is None
    assert [each.since for each in found.values()] == sorted(each.since for each in found.values())


async def test_a_backup_has_the_months_that_ended_before_it_was_taken(aged, tmp_path):
    """What may still be written to it has not, whatever is in it."""
    manifest = await export(aged, tmp_path / "b.jsonl.gz")
    assert ["journal_2026_01"] == [each.name for each in await months(aged, manifest) if each.kept]
    more = """
    INSERT INTO journal SELECT shard, seq + 1, incarnation, $1, kind, account, version + 1000000, amount,
      available, held, reservation, task, model, NULL, by, entry, hash FROM journal
    WHERE shard = 1 ORDER BY seq DESC LIMIT 1
    """
    await aged.execute(more, OLD)
    assert not any(each.kept for each in await months(aged, manifest))


async def test_a_backup_of_another_journal_is_refused(aged, tmp_path):
    manifest = await export_folder(aged, tmp_path / "folder")
    await tamper(
        aged, "UPDATE journal SET hash = sha256('x') WHERE (shard, seq) IN (SELECT shard, cursor FROM shards)"
    )
    with pytest.raises(BackupRefused, match="not the one that the backup is of"):
        await months(aged, manifest)
    await aged.execute("UPDATE ledger SET id = gen_random_uuid()")
    with pytest.raises(BackupRefused, match=f"The backup is of ledger {manifest.ledger}; this one is "):
        await months(aged, manifest)


def test_the_command_tells_people_and_programs(lastro, tmp_path):
    this = f"journal_{datetime.now(UTC):%Y_%m}"
    code, said = lastro("months")
    assert code == 0
    assert any(line.startswith(this) and line.endswith("MiB") for line in said.splitlines())
    assert lastro("export", tmp_path / "kept", "--folder")[0] == 0
    code, said = lastro("months", "--backup", tmp_path / "kept")
    assert (code, said.count("  not whole in the backup")) == (0, 4)
    code, said = lastro("months", "--backup", tmp_path / "kept", "--json")
    first = json.loads(said.splitlines()[0])
    assert (code, first["name"], first["kept"]) == (0, this, False)
    (tmp_path / "other").mkdir()
    code, said = lastro("months", "--backup", tmp_path / "other")
    assert (code, "has no manifest.json" in said) == (2, True)


def test_months_that_are_over_go_to_another_disk_and_come_back(lastro, past_url, tmp_path):
    """All as a user has it: which there are, what goes where, what is told of what cannot be."""

    async def older() -> str:
        connection = await asyncpg.connect(past_url)
        await connection.execute("SELECT make_journal_months(ARRAY[now() - interval '14 months'])")
        await make_cold(connection)
        name = await connection.fetchval("SELECT name FROM journal_months ORDER BY since")
        await connection.close()
        return name

    async def held_and_another() -> str:
        connection = await asyncpg.connect(past_url)
        await connection.execute(
            "SELECT make_journal_months(ARRAY[now() - interval '5 months', now() - interval '3 months'])"
        )
        held = await connection.fetchval("SELECT name FROM journal_months ORDER BY since OFFSET 1")
        await connection.execute(f"CREATE VIEW of_mine AS SELECT seq FROM {held}")
        await connection.close()
        return held

    this, old = f"journal_{datetime.now(UTC):%Y_%m}", asyncio.run(older())
    code, said = lastro("months", "archive", "--over", 24, "--tablespace", "cold")
    assert (code, "No month ended 24 months ago or earlier: nothing to put away." in said) == (0, True)
    code, said = lastro("months", "archive", "--over", 12, "--tablespace", "cold")
    assert (code, f"{old}: 0 rows from pg_default to cold" in said) == (0, True)
    assert f"{old} is on cold already" in lastro("months", "archive", old, "--tablespace", "cold")[1]
    listed = lastro("months")[1]
    assert [line for line in listed.splitlines() if line.endswith("  on cold")] == [listed.splitlines()[0]]
    assert json.loads(lastro("months", "--json")[1].splitlines()[0])["tablespace"] == "cold"
    code, said = lastro("months", "archive", this, "--tablespace", "cold")
    assert (code, f"{this} stays where it is: it is not over" in said) == (2, True)
    code, said = lastro("months", "archive", old, "--tablespace", "warm")
    assert (code, "no tablespace warm; it has cold, pg_default" in said) == (2, True)
    for wrong in (
        ("archive", "--tablespace", "cold"),
        ("archive", old, "--over", 1, "--tablespace", "cold"),
        ("archive", old),
        ("recall",),
        ("--json", "recall", old),
    ):
        assert lastro("months", *wrong)[0] == 2
    # One that has to stay does not keep the others.
    held = asyncio.run(held_and_another())
    code, said = lastro("months", "archive", "--over", 1, "--tablespace", "cold")
    assert (code, f"{held} stays where it is: view of_mine depends on" in said) == (2, True)
    assert sum(line.endswith("  on cold") for line in lastro("months")[1].splitlines()) == 2
    code, said = lastro("months", "recall", "--data", tmp_path, old)
    assert (code, f"{old}: 0 rows from cold to pg_default" in said) == (0, True)
    assert lastro("verify", "--from", 1)[0] == 0

"""What the doctor finds in PostgreSQL's records, how bad it is and what to do."""

from persistence.doctor import Bounds
from persistence.fences import fence
from tests.integration.doctor.findings import HEALTH, found

SHORTCOMINGS = {
    "a fork": (
        "UPDATE shards SET fence = 'a fork', fenced_at = now(), fenced_by = 'journal' WHERE shard IN (1, 2)",
        "fence", "critical", "Shards 1, 2, by journal: a fork",
    ),
    "lost": (
        """INSERT INTO acknowledged_lost (shard, incarnation, first_seq, last_seq, operations, process)
        VALUES (0, 2, 1, 3, '[]', 'x')""",
        "acknowledged_lost", "critical", "1 reports within a day",
    ),
    "no months ahead": (
        """DO $$
        DECLARE
          month text;
        BEGIN
          FOR month IN SELECT name FROM journal_months WHERE since > now() LOOP
            EXECUTE format('DROP TABLE %I', month);
          END LOOP;
        END
        $$""",
        "months", "warning", "no table for the next month",
    ),
    "orphans": (
        "INSERT INTO orphans (shard, seq, entry, why, sha256) VALUES (0, 1, '{}', 'x', sha256('{}'))",
        "orphans", "warning", "1 entries",
    ),
    "never verified": (
        """UPDATE shards SET verified_seq = 0, verified_at = NULL;
        UPDATE ledger SET created_at = now() - interval '9 days'""",
        "verified", "warning", "8 entries of the journal are not verified; last verified: never",
    ),
    "not compared, because of fences": (
        """UPDATE reconciliations SET status = 'unknown', why = 'Shard 0 is fenced: x Shard 1 is fenced: x',
        position = '{"unknown": ["Shard 0 is fenced: x", "Shard 1 is fenced: x"]}'""",
        "reconciliation", "warning", ": Shards 0, 1 are fenced: x",
    ),
    "not compared": (
        "UPDATE reconciliations SET status = 'unknown', why = 'It was ended before its end.'",
        "reconciliation", "warning", "It was ended",
    ),
    "drift": (
        "UPDATE reconciliations SET status = 'drift'", "reconciliation", "critical", "drift",
    ),
    "never compared": ("DELETE FROM reconciliations", "reconciliation", "warning", "never compared"),
    "compared long ago": (
        "UPDATE reconciliations SET finished_at = now() - interval '3 hours'",
        "reconciliation", "warning", "equal, 3 h ago",
    ),
    "compared for hours": (
        "INSERT INTO reconciliations (by, started_at) VALUES ('test', now() - interval '3 hours')",
        "reconciliation", "warning", "one is running, begun 3 h ago",
    ),
    "drift, and compared anew": (
        """UPDATE reconciliations SET status = 'drift';
        INSERT INTO reconciliations (by, started_at) VALUES ('test', now() + interval '1 second')""",
        "reconciliation", "critical", "drift",
    ),
    "no backup": ("DELETE FROM backups", "backup", "warning", "no backup"),
    "a backup that failed": ("UPDATE backups SET error = 'disk full'", "backup", "critical", "disk full"),
    "an old backup": (
        "UPDATE backups SET started_at = now() - interval '49 hours'", "backup", "warning", "2 days ago: the",
    ),
    "a backup that came to nothing after one that did not": (
        """UPDATE backups SET finished_at = now() - interval '1 hour';
        INSERT INTO backups (finished_at, path, error) VALUES (now(), 'there', 'Permission denied')""",
        "backup", "critical", "Permission denied",
    ),
    "another release": ("INSERT INTO migrations VALUES ('9999_x.sql', repeat('a', 64))",
        "migrations", "critical", "newer than this release"),
    "no ledger": ("UPDATE ledger SET born = false", "ledger", "critical", "None is born"),
    "an old release": ("DELETE FROM migrations WHERE name LIKE '0004%'", "migrations", "critical", "0004_"),
}  # fmt: skip


async def test_a_comparison_that_has_not_ended_says_nothing_yet(database, redis, redis_url, healthy):
    for before in ("SELECT 1", "DELETE FROM reconciliations"):
        await database.execute(before)
        await database.execute("INSERT INTO reconciliations (by) VALUES ('test')")
        assert await found(database, redis, redis_url) == {}


async def test_a_backup_is_overdue_after_twice_its_interval(database, redis, redis_url, healthy):
    await database.execute("UPDATE backups SET started_at = now() - interval '119 minutes'")
    for seconds, overdue in ((3600, False), (3500, True)):
        said = await found(database, redis, redis_url, bounds=Bounds(backup_seconds=seconds))
        assert ("backup" in said) is overdue


async def test_what_postgresql_knows_is_wrong_is_named_with_what_to_do(database, redis, redis_url, healthy):
    for change, check, level, says in SHORTCOMINGS.values():
        await database.execute(HEALTH)
        await database.execute(change)
        ((name, (its_level, said, do)),) = (await found(database, redis, redis_url)).items()
        assert (name, its_level) == (check, level)
        assert says in said
        assert do


async def test_a_comparison_that_a_fence_has_stopped_is_not_to_be_repeated_before_it_is_open(
    database, redis, redis_url, healthy
):
    await database.execute("UPDATE reconciliations SET status = 'unknown', why = 'Shard 0 is fenced: x'")
    _, _, do = (await found(database, redis, redis_url))["reconciliation"]
    assert do.startswith("Open the shards first")


async def test_the_operators_own_fence_is_a_warning(database, redis, redis_url, healthy):
    await fence(database, redis, None, "a move")
    level, says, do = (await found(database, redis, redis_url))["fence"]
    assert (level, "Shards 0 to 3, by operator" in says, "unfence" in do) == ("warning", True, True)


async def test_more_months_than_postgresql_has_room_for_locks_of_are_told_of(
    database, redis, redis_url, healthy
):
    await database.execute("SELECT make_journal_months_ahead(80)")
    level, says, do = (await found(database, redis, redis_url))["locks"]
    assert "warning" == level
    assert "A statement over the 81 months of the journal takes 729 locks" in says
    assert do.startswith("Set max_locks_per_transaction = 512")

"""`lastro doctor` names what is wrong, how bad it is and what to do, and nothing where nothing is."""

import asyncio
import json

import pytest
from click.testing import CliRunner
from redis import Redis as BlockingRedis

from app.cli import cli
from app.ledger import keys
from app.ledger.acknowledgement import Acknowledgement
from app.ledger.connection import connect
from app.ledger.operations import Grant
from persistence.admission import admit, this_machines_clock_ms
from persistence.birth import give_birth
from persistence.doctor import Bounds, examine
from persistence.drain import drain
from persistence.fences import fence
from persistence.pool import open_pool
from tests.integration.ledgers import SHARDS, process
from tests.integration.streams import put_back, replace_server, snapshot

BY_HAND = {"workers", "cron"}
"""Nobody works in these tests."""


HEALTH = """
UPDATE ledger SET born = true, created_at = now();
UPDATE shards
SET verified_seq = cursor, verified_at = now(), fence = NULL, fenced_at = NULL, fenced_by = NULL;
TRUNCATE acknowledged_lost, orphans, reconciliations, backups;
INSERT INTO reconciliations (finished_at, status, by) VALUES (now(), 'equal', 'test');
INSERT INTO backups (finished_at, path, entries) VALUES (now(), 'there', 8);
DELETE FROM migrations WHERE name LIKE '9999%';
"""


@pytest.fixture
async def healthy(database, database_url, redis, redis_url):
    """A ledger with some entries, journaled, verified, compared and backed up a moment ago."""
    await give_birth(database_url, redis_url, SHARDS)
    async with process(database, redis_url) as ledger:
        for number in range(8):
            await ledger.grant(Grant(account=f"account-{number}", amount=5))
    await drain(database_url, redis_url, 0.3, keep=None)
    await database.execute(HEALTH)


async def found(database, redis, redis_url, **options) -> dict[str, tuple[str, str, str]]:
    """Every finding that is not ok, but for nobody being at work and how the test's servers are set up."""
    bounds = options.pop("bounds", Bounds())
    findings = await examine(database, redis, redis_url, bounds, **options)
    assert len({each.check for each in findings}) == len(findings)
    of_the_tests = BY_HAND | {"redis_persistence", "postgres"}
    return {
        each.check: (each.level, each.says, each.do)
        for each in findings
        if each.level != "ok" and each.check not in of_the_tests
    }


async def test_a_healthy_ledger_has_nothing_to_say(database, redis, redis_url, healthy):
    assert await found(database, redis, redis_url) == {}


async def test_workers_and_cron_that_are_missing_are_critical(database, redis, redis_url, healthy):
    findings = {each.check: each for each in await examine(database, redis, redis_url, Bounds())}
    assert {findings[each].level for each in BY_HAND} == {"critical"}
    assert "lastro worker" in findings["workers"].do


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


DAMAGES = {
    "a balance that will go": (
        lambda redis: redis.expire(keys.account(0, "account-x"), 1000), "redis_keys", "will expire"
    ),
    "a key of nobody": (lambda redis: redis.set("lastro:{1}:balance:ana", "5"), "redis_keys", "is nobody's"),
    "a meta that is a text": (lambda redis: redis.set(keys.due(3), "x"), "redis_keys", "is a string"),
    "a shard that is not": (
        lambda redis: redis.hset(keys.meta(77), "x", "y"), "redis_keys", "of a shard that does not exist"
    ),
    "something set aside": (
        lambda redis: redis.zadd(keys.aside(2), {"reservation:x": 1}), "set_aside", "1 due members"
    ),
}  # fmt: skip


async def test_what_looks_wrong_in_redis_is_named(database, redis, redis_url, healthy):
    await redis.set(keys.account(0, "account-x"), "{}")
    early = await snapshot(redis)
    for change, check, says in DAMAGES.values():
        await put_back(redis, early)
        await redis.delete(keys.due(3))
        await change(redis)
        ((name, (level, said, do)),) = (await found(database, redis, redis_url)).items()
        assert (name, level) == (check, "critical")
        assert says in said
        assert do


async def test_the_sample_of_keys_is_bounded(database, redis, redis_url, healthy):
    async with redis.pipeline() as many:
        for number in range(5000):
            many.set(keys.account(0, f"x{number}"), "{}")
        await many.execute()
    findings = await examine(database, redis, redis_url, Bounds(), sample_max=1000)
    (line,) = (each.says for each in findings if each.check == "redis_keys")
    assert "as many as are sampled" in line


async def test_clocks_that_are_apart_are_named(database, redis, redis_url, healthy):
    for seconds, level in ((30, None), (90, "warning"), (-700, "critical")):
        clock_ms = this_machines_clock_ms() + seconds * 1000
        its = (await found(database, redis, redis_url, clock_ms=clock_ms)).get("clock")
        assert (its and its[0]) == level


async def test_a_backlog_above_its_bound_is_critical_and_names_the_shards(
    database, database_url, redis, redis_url, healthy
):
    async with process(database, redis_url) as ledger:
        for _ in range(3):
            await ledger.grant(Grant(account="account-0", amount=5))
    level, says, _ = (await found(database, redis, redis_url, bounds=Bounds(backlog_max=3)))["backlog"]
    assert level == "critical"
    assert "3 entries that PostgreSQL lacks (shard" in says
    level, _, _ = (await found(database, redis, redis_url, bounds=Bounds(backlog_max=5)))["backlog"]
    assert level == "warning"


async def test_a_comparison_that_a_fence_has_stopped_is_not_to_be_repeated_before_it_is_open(
    database, redis, redis_url, healthy
):
    await database.execute("UPDATE reconciliations SET status = 'unknown', why = 'Shard 0 is fenced: x'")
    _, _, do = (await found(database, redis, redis_url))["reconciliation"]
    assert do.startswith("Open the shards first")


async def test_a_lost_redis_is_one_sentence_with_what_to_run(database, redis, redis_url, healthy):
    await redis.flushall()
    await admit(database, redis)
    ((name, (level, says, do)),) = (await found(database, redis, redis_url)).items()
    assert (name, level, "lastro restore" in do) == ("fence", "critical", True)
    assert says.startswith("Shards 0 to 3, by admission: Redis has nothing of the shard: it has lost")
    assert says.count("it has lost") == 1


async def test_the_operators_own_fence_is_a_warning(database, redis, redis_url, healthy):
    await fence(database, redis, None, "a move")
    level, says, do = (await found(database, redis, redis_url))["fence"]
    assert (level, "Shards 0 to 3, by operator" in says, "unfence" in do) == ("warning", True, True)


async def test_a_redis_that_is_not_the_one_that_is_served_is_named(
    database, redis, redis_url, healthy, own_valkey
):
    await replace_server(redis)
    assert (await found(database, redis, redis_url))["admission"][0] == "warning"
    await admit(database, redis)
    await database.execute("UPDATE incarnations SET server = 'another' WHERE incarnation = 2")
    await database.execute("UPDATE shards SET incarnation = 3")
    await database.execute("INSERT INTO incarnations SELECT shard, 3, 'another', 0, 'x' FROM shards")
    level, says, _ = (await found(database, redis, redis_url))["admission"]
    assert (level, "Another Redis has been admitted" in says) == ("critical", True)


SETTINGS = {
    "evicts": ({"maxmemory": "1gb", "maxmemory-policy": "allkeys-lru"}, "redis_eviction", "critical"),
    "may evict": ({"maxmemory-policy": "allkeys-lru"}, "redis_eviction", "warning"),
    "is full": ({"maxmemory": "1mb"}, "redis_memory", "critical"),
    "keeps nothing": ({"appendonly": "no"}, "redis_persistence", "critical"),
    "keeps all but the last second": ({"appendfsync": "everysec"}, "redis_persistence", "warning"),
    "skips": ({"no-appendfsync-on-rewrite": "yes"}, "redis_persistence", "warning"),
}


async def test_a_redis_that_is_set_up_wrongly_is_named(own_postgres, own_valkey):
    pool = await open_pool(own_postgres.url)
    await give_birth(own_postgres.url, own_valkey.url, SHARDS)
    async with connect(own_valkey.url) as redis:
        before = await redis.config_get("*")
        for wrong, check, level in SETTINGS.values():
            for name, value in wrong.items():
                await redis.config_set(name, value)
            findings = await examine(pool, redis, own_valkey.url, Bounds())
            assert {each.level for each in findings if each.check == check} == {level}, wrong
            assert all(each.do for each in findings if each.check == check)
            for name in wrong:
                await redis.config_set(name, before[name])
        findings = await examine(pool, redis, own_valkey.url, Bounds())
        assert [each.level for each in findings if each.check == "redis_persistence"] == ["ok"]
    pool.terminate()


async def test_what_an_answer_promises_and_this_redis_does_not_keep_is_critical(
    database, redis, redis_url, healthy
):
    for level, says in (("fsync", "appendfsync everysec"), ("replicated=1", "there are 0 replicas")):
        bounds = Bounds(acknowledgement=Acknowledgement.of(level))
        ((name, finding),) = (await found(database, redis, redis_url, bounds=bounds)).items()
        assert (name, finding[0], says in finding[1]) == ("acknowledgement", "critical", True)
        assert finding[2]


def test_the_command_tells_by_its_exit_code_and_in_json(own_valkey, own_postgres):
    asyncio.run(give_birth(own_postgres.url, own_valkey.url, 2))
    environment = {"LASTRO_REDIS_URL": own_valkey.url, "LASTRO_DATABASE_URL": own_postgres.url}

    def doctor(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(cli, ["doctor", *arguments], env=environment)
        return done.exit_code, done.output

    code, said = doctor()
    assert code == 1
    assert "critical  workers" in said
    assert "-> Start `lastro worker`" in said
    code, said = doctor("--json")
    assert (code, {each["check"] for each in json.loads(said)} >= {"fence", "backlog", "clock"}) == (1, True)
    with BlockingRedis.from_url(own_valkey.url) as client:
        assert client.exists(keys.meta(0))
    own_valkey.kill()
    code, said = doctor()
    assert (code, "unknown   redis" in said) == (2, True)
    own_postgres.kill()
    code, said = doctor()
    assert (code, "unknown   postgres" in said) == (2, True)

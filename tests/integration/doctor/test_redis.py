"""What the doctor finds of Redis, how bad it is and what to do."""

from app.ledger import keys
from app.ledger.acknowledgement import Acknowledgement
from app.ledger.connection import connect
from app.ledger.operations import Grant
from persistence.admission import admit, this_machines_clock_ms
from persistence.birth import give_birth
from persistence.doctor import Bounds, examine
from persistence.pool import open_pool
from tests.integration.doctor.findings import found
from tests.integration.ledgers import SHARDS, process
from tests.integration.streams import put_back, replace_server, snapshot

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


async def test_a_lost_redis_is_one_sentence_with_what_to_run(database, redis, redis_url, healthy):
    await redis.flushall()
    await admit(database, redis)
    ((name, (level, says, do)),) = (await found(database, redis, redis_url)).items()
    assert (name, level, "lastro restore" in do) == ("fence", "critical", True)
    assert says.startswith("Shards 0 to 3, by admission: Redis has nothing of the shard: it has lost")
    assert says.count("it has lost") == 1


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

"""What the ledger's client of a cluster does when slots move, servers die and others take their place."""

from functools import partial

import pytest
from redis.cluster import RedisCluster
from redis.exceptions import MovedError, RedisError

from app.ledger import keys, scripts
from app.ledger.connection import connect, is_cluster, nodes
from tests.chaos.scenes import until
from tests.cluster.calling import SHARDS, Caller, soon
from tests.cluster.servers import Cluster
from tests.prompt import seen_by_others

COUNT = "return redis.call('INCR', KEYS[1])"
SLOW = f"local began = os.clock() repeat until os.clock() - began > 0.5 {COUNT}"


def counter(shard: int) -> str:
    return f"{{{shard}}}:count"


async def test_a_command_goes_to_the_primary_that_has_its_key(cluster: Cluster, redis):
    assert is_cluster(redis)
    for shard in range(SHARDS):
        assert 1 == await redis.eval(COUNT, 1, counter(shard))
        assert b"1" == cluster.ask(cluster.server_of(shard), "GET", counter(shard))
    assert 3 == len({cluster.server_of(shard).port for shard in range(SHARDS)})


async def test_a_command_has_left_before_others_run(cluster: Cluster, redis):
    with RedisCluster.from_url(cluster.url.replace("redis+cluster", "redis")) as theirs:
        assert b"1" == await seen_by_others(redis, theirs)


async def test_a_pipeline_may_hold_commands_of_many_slots_and_is_answered_in_order(redis):
    async with redis.pipeline(transaction=False) as many:
        for shard in [*range(SHARDS), *range(SHARDS)]:
            many.incrby(counter(shard), shard + 1)
        assert [1, 2, 3, 4, 2, 4, 6, 8] == await many.execute()


async def test_a_slot_that_was_moved_is_followed_and_nothing_runs_twice(cluster: Cluster, redis):
    other = cluster.elsewhere(0)
    assert 1 == await redis.eval(COUNT, 1, counter(0))
    cluster.move(0, other)
    assert 2 == await redis.eval(COUNT, 1, counter(0))
    assert b"2" == cluster.ask(other, "GET", counter(0))


async def test_a_pipeline_follows_a_slot_that_was_moved_and_runs_nothing_twice(cluster: Cluster, redis):
    for expected in (1, 2):
        async with redis.pipeline(transaction=False) as many:
            for shard in range(SHARDS):
                many.eval(COUNT, 1, counter(shard))
            assert [expected] * SHARDS == await many.execute()
        cluster.move(0, cluster.elsewhere(0))


async def test_a_transaction_on_a_slot_that_was_moved_is_refused_once_and_followed_from_then_on(
    cluster: Cluster, redis
):
    async def both() -> list[object]:
        async with redis.pipeline(transaction=True) as asked:
            asked.execute_command("EVAL", COUNT, 1, counter(0))
            asked.get(counter(0))
            return await asked.execute(raise_on_error=False)

    assert [1, b"1"] == await both()
    cluster.move(0, cluster.elsewhere(0))
    with pytest.raises(MovedError):
        await both()
    assert [2, b"2"] == await both()


async def test_a_script_is_taught_to_the_node_that_does_not_know_it(cluster: Cluster, redis):
    """Once to each, and a node that forgot it learns it again."""
    script = scripts.load("apply")
    caller = Caller(redis, cluster)
    await caller.found()
    for _ in range(2):
        for shard in range(SHARDS):
            assert "ok" == (await caller.grant(shard)).status
        knows = {each.port: cluster.ask(each, "SCRIPT EXISTS", script.sha) for each in cluster.primaries()}
        assert {port: [True] for port in knows} == knows
        cluster.ask(cluster.server_of(0), "SCRIPT", "FLUSH")
    counted = [int(await redis.hget(keys.meta(shard), "sequence")) for shard in range(SHARDS)]
    assert [2] * SHARDS == counted


async def test_a_call_that_is_sent_again_after_its_slot_was_moved_is_answered_from_its_lane(
    cluster: Cluster, redis
):
    """A slot brings all of it along, lanes too; but nobody is let in before the new server is admitted."""
    caller = Caller(redis, cluster)
    await caller.found()
    first = await caller.grant(0)
    other = cluster.elsewhere(0)
    cluster.move(0, other)
    assert "not_admitted" == (await caller.grant(0, number=1)).status
    await redis.hset(keys.meta(0), "server", cluster.replid_of(0))
    caller.terms.servers[0] = cluster.replid_of(0)
    assert first.results == (await caller.grant(0, number=1)).results
    assert b"1" == await redis.hget(keys.meta(0), "sequence")


async def test_a_command_that_was_not_answered_in_time_is_not_sent_again(cluster: Cluster):
    """It takes longer than the client waits, and counts when it is done."""
    async with connect(cluster.url, answer_seconds=0.3) as redis:
        await redis.set(counter(0), 0)
        with pytest.raises(RedisError):
            await redis.eval(SLOW, 1, counter(0))
    assert b"1" == cluster.ask(cluster.server_of(0), "GET", counter(0))


async def test_while_a_node_is_away_the_others_are_reached_and_its_replica_once_it_has_taken_over(
    cluster: Cluster,
):
    """Also where the address names the node that is away, by a client that was there before."""
    dead = cluster.primaries()[0]
    replica = cluster.replica_of(dead)
    of_dead = [shard for shard in range(SHARDS) if cluster.server_of(shard) is dead]
    assert of_dead
    async with connect(cluster.url, answer_seconds=0.5) as redis:
        for shard in range(SHARDS):
            await redis.eval(COUNT, 1, counter(shard))
        dead.kill()
        for _ in range(3):
            for shard in range(SHARDS):
                if shard in of_dead:
                    with pytest.raises(RedisError):
                        await redis.eval(COUNT, 1, counter(shard))
                else:
                    await redis.eval(COUNT, 1, counter(shard))
        cluster.promote(replica)
        for shard in range(SHARDS):
            asked = partial(redis.eval, COUNT, 1, counter(shard))
            assert (2 if shard in of_dead else 5) == await soon(asked)


@pytest.mark.parametrize("transaction", [False, True], ids=["a pipeline", "a transaction"])
async def test_a_pipeline_or_a_transaction_that_met_a_dead_node_finds_its_replica(
    cluster: Cluster, redis, transaction
):
    async def count() -> int:
        async with redis.pipeline(transaction=transaction) as asked:
            asked.execute_command("EVAL", COUNT, 1, counter(0))
            return (await asked.execute())[0]

    assert 1 == await count()
    dead = cluster.server_of(0)
    replica = cluster.replica_of(dead)
    dead.kill()
    with pytest.raises(RedisError):
        await count()
    cluster.promote(replica)
    assert 2 == await soon(count)


async def test_nodes_are_the_primaries_also_after_one_was_replaced(cluster: Cluster, redis):
    """By one that the client has not met for this slot, which was moved before; and the old one lives."""

    async def are_known() -> bool:
        known = {int(each.name.rpartition(":")[2]) for each in await nodes(redis)}
        return known == {each.port for each in cluster.primaries()}

    assert await are_known()
    cluster.move(0, cluster.elsewhere(0))
    assert 1 == await redis.eval(COUNT, 1, counter(0))
    cluster.promote(cluster.replica_of(cluster.server_of(0)))
    assert 2 == await soon(partial(redis.eval, COUNT, 1, counter(0)))
    await until(are_known)
    roles = {(await redis.info("replication", **each.only))["role"] for each in await nodes(redis)}
    assert {"master"} == roles

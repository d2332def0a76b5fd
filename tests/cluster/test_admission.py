"""Each server of a cluster is admitted for the shards that it has, and none for those of another (I5)."""

import asyncio
import os
import signal

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from app.admitting import keep_admitted
from app.ledger.acknowledgement import Acknowledgement
from app.ledger.backing import NotAdmitted
from app.ledger.connection import connect
from persistence.admission import admit
from persistence.birth import BirthRefused, give_birth
from persistence.fences import fence, unfence
from persistence.served import note
from tests.cluster.born import born, calling, shards_of, statuses
from tests.cluster.calling import SHARDS
from tests.cluster.servers import Cluster

AWAY = "The Redis node of shard {} does not answer."


async def numbers(database) -> list[int]:
    rows = await database.fetch("SELECT incarnation FROM shards ORDER BY shard")
    return [row["incarnation"] for row in rows]


async def fences_of(database) -> int:
    return await database.fetchval("SELECT count(*) FROM shards WHERE fence IS NOT NULL")


async def test_every_shard_is_admitted_where_it_is_and_whoever_comes_later_adopts_that(
    database, database_url, redis, cluster: Cluster
):
    terms = await born(database, database_url, redis, cluster)
    assert terms.servers == [cluster.replid_of(shard) for shard in range(SHARDS)]
    assert (terms.server, terms.incarnations, terms.fences) == ("", [1] * SHARDS, {})
    assert ["ok"] * SHARDS == await statuses(calling(redis, cluster, terms))
    assert terms == await admit(database, redis)
    await give_birth(database_url, cluster.url, SHARDS)


async def test_a_promoted_replica_gets_higher_numbers_for_the_shards_that_it_took_over(
    database, database_url, redis, cluster: Cluster
):
    terms = await born(database, database_url, redis, cluster)
    caller = calling(redis, cluster, terms)
    assert ["ok"] * SHARDS == await statuses(caller)
    its = shards_of(cluster, 0)
    cluster.promote(cluster.replica_of(cluster.server_of(0)))
    found = await statuses(caller)
    assert ["not_admitted" if shard in its else "ok" for shard in range(SHARDS)] == found
    caller.terms = await admit(database, redis)
    assert [1 + (shard in its) for shard in range(SHARDS)] == caller.terms.incarnations
    assert caller.terms.fences == {}
    assert caller.terms.servers == [cluster.replid_of(shard) for shard in range(SHARDS)]
    assert ["ok"] * SHARDS == await statuses(caller)


async def test_a_slot_that_was_moved_gets_a_higher_number_and_no_other(
    database, database_url, redis, cluster: Cluster
):
    terms = await born(database, database_url, redis, cluster)
    caller = calling(redis, cluster, terms)
    assert ["ok"] * SHARDS == await statuses(caller)
    cluster.move(2, cluster.elsewhere(2))
    assert ["ok", "ok", "not_admitted", "ok"] == await statuses(caller)
    caller.terms = await admit(database, redis)
    assert ([1, 1, 2, 1], {}) == (caller.terms.incarnations, caller.terms.fences)
    assert ["ok"] * SHARDS == await statuses(caller)


@pytest.mark.parametrize(
    ("how", "shard"), [(signal.SIGKILL, 0), (signal.SIGKILL, 1), (signal.SIGKILL, 2), (signal.SIGSTOP, 1)]
)
async def test_a_node_that_is_away_takes_no_shard_of_another_with_it_and_is_fenced_nowhere(
    database, database_url, redis, cluster: Cluster, how, shard
):
    terms = await born(database, database_url, redis, cluster)
    caller = calling(redis, cluster, terms)
    server, its = cluster.server_of(shard), shards_of(cluster, shard)
    if how is signal.SIGKILL:
        server.kill()
    else:
        os.kill(server.pid, how)
    try:
        there = await admit(database, redis)
        async with connect(cluster.url) as later:
            assert there == await admit(database, later)
    finally:
        if how is signal.SIGSTOP:
            os.kill(server.pid, signal.SIGCONT)
    assert (set(its), {shard: AWAY.format(shard) for shard in its}) == (there.refused, there.fences)
    assert ["" if each in its else terms.server_of(each) for each in range(SHARDS)] == there.servers
    assert 0 == await fences_of(database)
    caller.terms = there
    for other in set(range(SHARDS)) - set(its):
        assert "ok" == (await caller.grant(other)).status


async def test_where_nobody_answers_nothing_is_admitted(database, database_url, redis, own_cluster: Cluster):
    url = own_cluster.url
    await give_birth(database_url, url, SHARDS)
    async with connect(url) as client:
        await admit(database, client)
        for server in own_cluster.servers:
            server.kill()
        with pytest.raises(RedisConnectionError):
            await admit(database, client)


async def test_a_node_that_evicts_is_named(database, database_url, redis, cluster: Cluster):
    await born(database, database_url, redis, cluster)
    server = cluster.server_of(3)
    cluster.ask(server, "CONFIG", "SET", "maxmemory", "1gb", "maxmemory-policy", "allkeys-lru")
    try:
        with pytest.raises(NotAdmitted, match=rf"^The Redis node 127.0.0.1:{server.port} evicts keys"):
            await admit(database, redis)
    finally:
        cluster.ask(server, "CONFIG", "SET", "maxmemory", "0", "maxmemory-policy", "noeviction")


async def test_a_level_of_acknowledgement_is_demanded_of_every_node(redis, cluster: Cluster):
    one = cluster.server_of(2)
    for server in cluster.primaries():
        cluster.ask(server, "CONFIG", "SET", "appendfsync", "everysec" if server is one else "always")
    with pytest.raises(NotAdmitted, match=f"the Redis node 127.0.0.1:{one.port} has appendfsync everysec"):
        await Acknowledgement(fsync=True).demand(redis)


async def test_the_address_of_a_node_is_not_taken_for_that_of_a_server(
    database, database_url, redis, cluster: Cluster
):
    await born(database, database_url, redis, cluster)
    address = cluster.url.replace("redis+cluster:", "redis:")
    async with connect(address) as alone:
        with pytest.raises(NotAdmitted, match=r"is a node of a cluster .* Write redis\+cluster://"):
            await admit(database, alone)
    with pytest.raises(BirthRefused, match=r"is a node of a cluster .* Write redis\+cluster://"):
        await give_birth(database_url, address, SHARDS)


async def test_a_server_is_not_taken_for_a_cluster(database, database_url, redis_url):
    await give_birth(database_url, redis_url, SHARDS)
    address = redis_url.replace("redis:", "redis+cluster:")
    client = connect(address)
    try:
        with pytest.raises(NotAdmitted, match=r"is no cluster .* Write redis:// instead"):
            await admit(database, client)
    finally:
        await client.aclose()
    with pytest.raises(BirthRefused, match=r"is no cluster .* Write redis:// instead"):
        await give_birth(database_url, address, SHARDS)


async def test_a_fence_is_lifted_for_the_shards_that_are_there(
    database, database_url, redis, cluster: Cluster
):
    await born(database, database_url, redis, cluster)
    its = shards_of(cluster, 1)
    assert list(range(SHARDS)) == await fence(database, redis, None, "moving")
    assert list(range(SHARDS)) == sorted((await admit(database, redis)).fences)
    cluster.server_of(1).kill()
    opening = await unfence(database, redis, None, "moved")
    assert {shard: AWAY.format(shard) for shard in its} == opening.stays
    assert set(range(SHARDS)) - set(its) == set(opening.opened)


class _Served:
    """What `keep_admitted` wants of a ledger."""

    def __init__(self) -> None:
        self.terms = None
        self.dismissed = []

    def adopt(self, terms) -> None:
        self.terms = terms

    def dismiss(self, why: str) -> None:
        self.terms = None
        self.dismissed.append(why)

    def heed_memory(self, *, is_short: bool) -> None: ...


class _Backing:
    def __init__(self, database, redis) -> None:
        self._stores = database, redis

    async def admit(self):
        return await admit(*self._stores)


async def test_every_server_that_is_alive_is_noted_and_a_promoted_one_is_admitted_unasked(
    database, database_url, redis, own_cluster: Cluster, until
):
    await give_birth(database_url, own_cluster.url, SHARDS)
    async with connect(own_cluster.url) as aside:
        ledger = _Served()
        keeping = asyncio.create_task(
            keep_admitted(ledger, _Backing(database, aside), aside, Acknowledgement(), database)
        )
        try:

            async def seen() -> set[str]:
                rows = await database.fetch(
                    "SELECT server FROM served_servers WHERE seen_at > now() - interval '2 seconds'"
                )
                return {row["server"] for row in rows}

            async def waited(condition) -> None:
                async with asyncio.timeout(30):
                    while not await condition():  # noqa: ASYNC110 - others do it
                        await asyncio.sleep(0.05)

            async def all_seen() -> bool:
                return bool(ledger.terms) and set(ledger.terms.servers) <= await seen()

            await waited(all_seen)
            before = ledger.terms
            lost, its = own_cluster.server_of(0), shards_of(own_cluster, 0)
            replica = own_cluster.replica_of(lost)
            lost.kill()

            async def others_seen() -> bool:
                others = {before.server_of(shard) for shard in range(SHARDS) if shard not in its}
                return await seen() == others

            await waited(others_seen)
            own_cluster.until_taken_over(0, replica)

            async def admitted() -> bool:
                replid = own_cluster.replid_of(0)
                return bool(ledger.terms) and all(ledger.terms.server_of(each) == replid for each in its)

            await waited(admitted)
            assert [1 + (shard in its) for shard in range(SHARDS)] == ledger.terms.incarnations
            assert ledger.dismissed == []
            await waited(all_seen)
        finally:
            keeping.cancel()
            await asyncio.wait({keeping})


async def test_nodes_that_lost_their_data_while_others_are_alive_are_refused_each_for_its_own_shards(
    database, database_url, redis, cluster: Cluster
):
    """The admitted ones were seen a moment ago, so that nobody is fenced for what may be a mistake."""
    terms = await born(database, database_url, redis, cluster)
    assert ["ok"] * SHARDS == await statuses(calling(redis, cluster, terms))
    await note(database, set(terms.servers))
    its = sorted({*shards_of(cluster, 1), *shards_of(cluster, 2)})
    for shard in (1, 2):
        replica = cluster.replica_of(cluster.server_of(shard))
        cluster.promote(replica)
        cluster.ask(replica, "FLUSHALL")
    async with asyncio.timeout(10):  # until the client has looked who is there now
        while AWAY.format(1) in (there := await admit(database, redis)).fences.values():  # noqa: ASYNC110 - see there
            await asyncio.sleep(0.05)
    assert set(its) == there.refused == there.fences.keys()
    assert {f"Another Redis is being served for shard {each}" for each in its} == {
        why.partition(" right now")[0] for why in there.fences.values()
    }
    assert 0 == await fences_of(database)
    rows = await database.fetch("SELECT server FROM intruders")
    assert {cluster.replid_of(1), cluster.replid_of(2)} == {row["server"] for row in rows}
    await database.execute("UPDATE served_servers SET seen_at = seen_at - interval '1 hour'")
    await database.execute("UPDATE intruders SET since = since - interval '1 minute'")
    assert set(its) == (await admit(database, redis)).fences.keys()
    assert len(its) == await fences_of(database)

"""What the judges of a ledger see of a shard whose slot was moved, or whose replica took over."""

from functools import partial

import pytest

from app.ledger import keys, scripts
from app.ledger.admission import survey
from app.ledger.judgement import Sighting, Standing, is_numbered
from app.ledger.stream import Admitted, ReadRefused, lines, read
from tests.cluster.calling import SHARDS, Caller, soon
from tests.cluster.servers import Cluster


def move(cluster: Cluster) -> None:
    cluster.move(0, cluster.elsewhere(0))


def fail_over(cluster: Cluster) -> None:
    """The primary is killed, and its replica takes its place."""
    dead = cluster.server_of(0)
    replica = cluster.replica_of(dead)
    dead.kill()
    cluster.promote(replica)


def restart(cluster: Cluster) -> None:
    cluster.server_of(0).restart()
    cluster.until_whole()


CHANGES = pytest.mark.parametrize("change", [move, fail_over, restart], ids=lambda each: each.__name__)


async def follow(redis) -> None:
    """Have the client notice what has changed."""
    for shard in range(SHARDS):
        await soon(partial(redis.hget, keys.meta(shard), "sequence"))


@pytest.fixture
async def caller(cluster: Cluster, redis) -> Caller:
    """With an entry in each shard."""
    caller = Caller(redis, cluster)
    await caller.found()
    for shard in range(SHARDS):
        assert "ok" == (await caller.grant(shard)).status
    return caller


async def seen(redis, caller: Caller) -> list[Sighting]:
    standings = [standing(caller, shard) for shard in range(SHARDS)]
    return await survey(redis, caller.terms.ledger, standings)


def standing(caller: Caller, shard: int) -> Standing:
    """A shard of which nothing is journaled yet."""
    return Standing(shard, 0, "genesis", 1, None, server=caller.terms.server_of(shard))


@CHANGES
async def test_a_shard_that_changed_its_server_shows_it_and_the_others_stay_admitted(
    cluster: Cluster, redis, caller, change
):
    assert all(is_numbered(standing(caller, s), each) for s, each in enumerate(await seen(redis, caller)))
    concerned = {shard for shard in range(SHARDS) if cluster.server_of(shard) is cluster.server_of(0)}
    change(cluster)
    await follow(redis)
    concerned = {0} if change is move else concerned
    numbered = [is_numbered(standing(caller, s), each) for s, each in enumerate(await seen(redis, caller))]
    assert concerned == {shard for shard, still in enumerate(numbered) if not still}
    sighting = (await seen(redis, caller))[0]
    assert (sighting.server, sighting.admitted_server) == (cluster.replid_of(0), caller.terms.server_of(0))
    assert "not_admitted" == (await caller.grant(0)).status
    assert "1" == sighting.sequence


@CHANGES
async def test_a_stream_without_entries_remembers_its_last_number(cluster: Cluster, redis, caller, change):
    """What is journaled is trimmed, and the next entry must not have a number that was there before."""
    await redis.xtrim(keys.journal(0), maxlen=0)
    change(cluster)
    await follow(redis)
    assert 0 == await redis.xlen(keys.journal(0))
    assert "1-0" == (await seen(redis, caller))[0].last_id


@CHANGES
async def test_a_stream_is_read_on_from_whoever_has_it(cluster: Cluster, redis, caller, change):
    """Not before that one is admitted."""
    change(cluster)
    await follow(redis)
    admitted = Admitted(caller.terms.ledger, 0, 1)
    with pytest.raises(ReadRefused):
        await read(redis, admitted, 0, 10)
    await redis.hset(keys.meta(0), "server", cluster.replid_of(0))
    caller.terms.servers[0] = cluster.replid_of(0)
    assert "ok" == (await caller.grant(0)).status
    piece = await read(redis, admitted, 0, 10)
    assert [1, 2] == [line.sequence for line in lines(piece, 0, "genesis")]


async def test_a_node_that_does_not_know_a_script_is_sent_the_text(cluster: Cluster, redis, caller):
    script = scripts.load("read")
    for shard in range(SHARDS):
        cluster.ask(cluster.server_of(shard), "SCRIPT", "FLUSH")
        piece = await read(redis, Admitted(caller.terms.ledger, shard, 1), 0, 10)
        assert 1 == piece.sequence
        assert [True] == cluster.ask(cluster.server_of(shard), "SCRIPT EXISTS", script.sha)

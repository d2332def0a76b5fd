"""What an operator does to a ledger on a cluster: look at it, compare, restore, move, back up."""

import asyncpg
import pytest
from msgspec.structs import replace

from app.ledger import keys
from app.ledger.connection import connect
from app.ledger.ledger import Ledger
from app.ledger.loading import Binding, bind, unbind
from app.ledger.operations import Bind, Confirm, Deduct, Grant, Reserve
from app.limits import Limiter
from persistence.admission import admit
from persistence.backup.drill import drill
from persistence.backup.export import export
from persistence.backup.reading import Backup
from persistence.birth import BirthRefused, give_birth
from persistence.doctor import Bounds, examine
from persistence.journaling import StreamsAndJournal
from persistence.lacking import lacking
from persistence.monitoring.reach import look
from persistence.planned import draining
from persistence.reconcile.command import alone, everything
from persistence.restore import restore
from tests.cluster.born import all_admitted, sequences, shards_of
from tests.cluster.calling import SHARDS
from tests.cluster.servers import Cluster
from tests.conftest import PASSWORD
from tests.integration.doctor.findings import HEALTH
from tests.integration.ledgers import ACCOUNTS, journal_all, process
from tests.integration.restore.looking import Looking


async def hold(ledger: Ledger, account: str, task: str) -> str:
    """A reservation that pays for a task, which may be kept in any shard."""
    made = await ledger.new_reservation_id(account)
    await ledger.reserve(Reserve(account=account, reservation=made, amount=5))
    await ledger.bind(Bind(reservation=made, task=task, provider="fal"))
    return made


@pytest.fixture
async def traded(database, database_url, cluster: Cluster):
    """A ledger with a past in every shard: grants, holds, tasks of others, refunds. All is journaled."""
    await give_birth(database_url, cluster.url, SHARDS)
    async with process(database, cluster.url) as ledger:
        for shard, account in ACCOUNTS.items():
            await ledger.grant(Grant(account=account, amount=1000))
            spent = await ledger.deduct(Deduct(account=account, amount=10))
            await ledger.refund(replace(await ledger.refunding(spent.transaction), amount=4))
            for number in range(4):
                held = await hold(ledger, account, f"task-{shard}-{number}")
                if number % 2:
                    await ledger.confirm(Confirm(reservation=held, amount=3))
    await journal_all(database_url, cluster.url)
    await database.execute(HEALTH)


async def contents(cluster: Cluster) -> dict[str, object]:
    """What the ledger's keys hold, but for lanes and what another admission changes."""
    async with connect(cluster.url) as redis:
        found = {}
        for server in cluster.primaries():
            for name in cluster.ask(server, "KEYS", "lastro:*"):
                _, kind = keys.kind_of(name) or (-1, "")
                if kind in ("account", "reservation", "task", "operation", "refunded"):
                    found[name.decode()] = await redis.get(name)
                elif kind in ("due", "holds"):
                    found[name.decode()] = await redis.zrange(name, 0, -1, withscores=True)
        return found


async def findings(database, redis, own) -> dict[str, tuple[str, str]]:
    found = await examine(database, redis, own, Bounds())
    assert len({each.check for each in found}) == len(found)
    of_the_tests = {"redis_persistence", "redis_replicas", "workers", "cron", "postgres"}
    return {
        each.check: (each.level, each.says)
        for each in found
        if each.level != "ok" and each.check not in of_the_tests
    }


async def test_a_ledger_is_not_born_beside_a_key_on_any_node(database_url, redis, cluster: Cluster):
    for shard in range(SHARDS):
        await redis.set(keys.account(shard, "ana"), "{}")
        with pytest.raises(BirthRefused, match="keys under lastro: that do not belong"):
            await give_birth(database_url, cluster.url, SHARDS)
        await redis.delete(keys.account(shard, "ana"))
    await give_birth(database_url, cluster.url, SHARDS)


async def test_the_doctor_finds_nothing_wrong_with_a_healthy_cluster(database, redis, redis_url, traded):
    assert {} == await findings(database, redis, redis_url)


async def test_the_doctor_names_what_is_wrong_on_any_node(database, redis, redis_url, cluster, traded):
    for shard in range(SHARDS):
        await redis.set(f"lastro:{{{shard}}}:balance:ana", "5")
        ((name, (level, says)),) = (await findings(database, redis, redis_url)).items()
        assert ("redis_keys", "critical") == (name, level)
        assert "is nobody's" in says
        await redis.delete(f"lastro:{{{shard}}}:balance:ana")
    one = cluster.server_of(2)
    cluster.ask(one, "CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    try:
        ((name, (level, says)),) = (await findings(database, redis, redis_url)).items()
        assert ("redis_eviction", "warning") == (name, level)
        assert says.startswith(f"127.0.0.1:{one.port}: maxmemory-policy allkeys-lru")
    finally:
        cluster.ask(one, "CONFIG", "SET", "maxmemory-policy", "noeviction")


async def test_the_doctor_names_a_shard_that_is_moved_key_by_key(database, redis, redis_url, cluster, traded):
    slot, source, to = cluster.slot_of(3), cluster.server_of(3), cluster.elsewhere(3)
    strange = next(each for each in range(16384) if each not in map(cluster.slot_of, range(SHARDS)))
    to_id, source_id = (cluster.ask(each, "CLUSTER", "MYID") for each in (to, source))
    for server, state, node in ((to, "IMPORTING", source_id), (source, "MIGRATING", to_id)):
        cluster.ask(server, "CLUSTER", "SETSLOT", slot, state, node)
        try:
            found = await findings(database, redis, redis_url)
            assert {"redis_slots"} == found.keys()
            level, says = found["redis_slots"]
            assert ("critical", True) == (level, says.startswith("Shards are being moved key by key: 3. "))
        finally:
            cluster.ask(server, "CLUSTER", "SETSLOT", slot, "STABLE")
    owner = cluster.owner_of(strange)
    cluster.ask(owner, "CLUSTER", "SETSLOT", strange, "MIGRATING", to_id if owner is not to else source_id)
    try:
        assert {} == await findings(database, redis, redis_url)
    finally:
        cluster.ask(owner, "CLUSTER", "SETSLOT", strange, "STABLE")


async def test_what_looks_at_all_shards_goes_on_with_those_that_are_there(
    database, redis, redis_url, cluster: Cluster, traded
):
    its = shards_of(cluster, 0)
    others = set(range(SHARDS)) - set(its)
    seen = await look(redis, SHARDS)
    assert set(range(SHARDS)) == seen.shards.keys()
    assert [0] * SHARDS == [each.entries for each in await lacking(redis, database)]
    port = cluster.server_of(0).port
    cluster.server_of(0).kill()
    found = await findings(database, redis, redis_url)
    assert "critical" == found["redis_cluster"][0]
    assert f"127.0.0.1:{port}" in found["redis_cluster"][1]
    assert ("critical", f"The Redis node of shard {its[0]} does not answer.") == found["admission"]
    assert others == (await look(redis, SHARDS)).shards.keys()
    streams = await StreamsAndJournal(database, redis).shards()
    assert others == {each.shard for each in streams if each.stream is not None}
    assert [0] * SHARDS == [each.entries for each in await lacking(redis, database)]


async def test_a_node_that_lost_its_data_is_restored_and_the_others_serve_meanwhile(
    database, database_url, redis, cluster: Cluster, traded, tmp_path
):
    before = await contents(cluster)
    its = shards_of(cluster, 1)
    cluster.ask(cluster.server_of(1), "FLUSHALL")
    assert set(its) == (await admit(database, redis)).fences.keys()
    found = await restore(database_url, cluster.url, salvage=tmp_path / "orphans.jsonl", watch=Looking())
    assert found is not None
    assert (its, [], {}) == ([each.shard for each in found.shards], found.drift, found.fences)
    assert before == await contents(cluster)
    assert {} == (await admit(database, redis)).fences
    async with process(database, cluster.url) as ledger:
        for account in ACCOUNTS.values():
            await ledger.deduct(Deduct(account=account, amount=1))


async def test_strays_are_found_on_every_node(database_url, redis, cluster: Cluster, traded):
    async with alone(database_url, cluster.url) as its:
        assert [] == (await everything(its, "test", lambda *_: None)).drift
    for shard, account in ACCOUNTS.items():
        await redis.copy(keys.account(shard, account), keys.account(shard, f"stray-{shard}"))
    async with alone(database_url, cluster.url) as its:
        compared = await everything(its, "test", lambda *_: None)
    assert {f"stray-{shard}" for shard in range(SHARDS)} == {each.account_id for each in compared.drift}
    assert [] == compared.unknown


async def test_a_replica_that_lagged_is_rolled_forward_when_it_takes_over(
    database, database_url, redis, cluster: Cluster, traded
):
    """With tasks whose shards are on other nodes, and tasks of other nodes' reservations on it."""
    replica = cluster.replica_of(cluster.server_of(0))
    its = shards_of(cluster, 0)
    cluster.lose_touch(replica)
    async with process(database, cluster.url) as ledger:
        for shard, account in ACCOUNTS.items():
            for number in range(6):
                await hold(ledger, account, f"late-{shard}-{number}")
    await journal_all(database_url, cluster.url)
    before = await contents(cluster)
    cluster.promote(replica)
    cluster.ask(replica, "CONFIG", "SET", "masterauth", PASSWORD)
    terms = await all_admitted(database, redis)
    assert [shard in its for shard in range(SHARDS)] == [each > 1 for each in terms.incarnations]
    assert before == await contents(cluster)
    rows = await database.fetch("SELECT shard, cursor FROM shards ORDER BY shard")
    assert [row["cursor"] for row in rows] == await sequences(redis, range(SHARDS))


async def test_a_backup_is_brought_to_an_empty_cluster(
    database_url, empty_database_url, cluster: Cluster, traded, tmp_path
):
    connection = await asyncpg.connect(database_url)
    try:
        await export(connection, tmp_path / "a.gz")
    finally:
        await connection.close()
    cluster.be_empty()
    said = await drill(
        empty_database_url, cluster.url, Backup(tmp_path / "a.gz"), step=lambda _: None, seen=lambda _: None
    )
    assert [] == said


async def test_a_ledger_moves_from_one_server_to_a_cluster(
    database, database_url, redis, redis_url, cluster: Cluster, tmp_path
):
    """Drain, name the other one, restore: nothing is lost, and the old one is refused from then on."""
    await give_birth(database_url, redis_url, SHARDS)
    async with process(database, redis_url) as ledger:
        for account in ACCOUNTS.values():
            await ledger.grant(Grant(account=account, amount=100))
    async with connect(redis_url) as old:
        async for left in draining(database_url, redis_url, database, old, "moving"):
            entries = left.entries
        assert 0 == entries
        shards = list(range(SHARDS))
        found = await restore(database_url, cluster.url, salvage=tmp_path / "x", watch=Looking(), also=shards)
        assert found is not None
        await database.execute("UPDATE shards SET fence = NULL WHERE fenced_by = 'operator'")
        terms = await admit(database, redis)
        assert ({}, [cluster.replid_of(shard) for shard in shards]) == (terms.fences, terms.servers)
        assert set(shards) == (await admit(database, old)).refused
    async with process(database, cluster.url) as ledger:
        for account in ACCOUNTS.values():
            receipt = await ledger.deduct(Deduct(account=account, amount=1))
            assert 99 == receipt.account.available


async def test_a_task_is_bound_back_and_let_go_in_any_shard(redis, cluster: Cluster):
    for shard in range(SHARDS):
        name = keys.task(shard, "fal", "t")
        await redis.set(name, "the-newer")
        await bind(redis, Binding(shard, "fal", "t", "the-older", 2**45))
        await unbind(redis, shard, "fal", "t", "the-older")
        assert b"the-newer" == await redis.get(name)
        await unbind(redis, shard, "fal", "t", "the-newer")
        assert 0 == await redis.exists(name)
        await bind(redis, Binding(shard, "fal", "t", "the-older", 2**45))
        assert (b"the-older", 2**45) == (await redis.get(name), await redis.pexpiretime(name))


async def test_requests_are_counted_on_a_cluster(redis, cluster: Cluster):
    limiter = Limiter(redis, key_per_second=2, account_per_second=3)
    lefts = await limiter.count(limiter.account, ["ana", "bia", "ana", "ana", "ana"])
    assert [True, True, True, True, False] == [each.wait_us == 0 for each in lefts]
    await limiter.stop()

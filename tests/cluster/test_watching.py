"""What whoever watches a ledger on a cluster is told, and what commands say of a wrong address."""

from functools import partial

import pytest

from app.checking import Checks
from app.ledger.batcher import Limits
from app.ledger.connection import connect
from app.ledger.errors import LedgerUnavailable
from app.ledger.ledger import Ledger
from app.ledger.operations import Deduct, Grant
from persistence.admission import admit
from persistence.alerts.watched import Watched
from persistence.alive import RedisQueues
from persistence.backing import PostgresBacking
from persistence.birth import give_birth
from tests.cluster.born import shards_of
from tests.cluster.calling import SHARDS
from tests.cluster.servers import Cluster
from tests.integration.ledgers import ACCOUNTS, journal_all, process
from tests.integration.running import lastro


@pytest.fixture
async def granted(database, database_url, cluster: Cluster) -> None:
    await give_birth(database_url, cluster.url, SHARDS)
    async with process(database, cluster.url) as ledger:
        for account in ACCOUNTS.values():
            await ledger.grant(Grant(account=account, amount=100))
    await journal_all(database_url, cluster.url)


async def test_the_health_of_a_cluster_is_told_whichever_of_its_nodes_is_away(
    database, redis, redis_url, cluster: Cluster, granted
):
    health = Watched().looking(database, redis, RedisQueues(redis_url))
    whole = await health.look()
    for name in ("overdue_reservations", "journal_lag", "backlog", "redis_eviction", "fence"):
        assert "healthy" == whole[name].status, whole[name]
    for server in cluster.primaries():
        server.kill()
        seen = await health.look()
        assert "critical" == seen["redis_persistence"].status
        assert f"primaries do not answer: 127.0.0.1:{server.port}" in seen["redis_persistence"].message
        for name in ("overdue_reservations", "journal_lag", "backlog", "redis_eviction"):
            assert "healthy" == seen[name].status, seen[name]
        server.start()
        cluster.until_whole()


async def test_readiness_names_the_shards_whose_node_is_away(database, redis, cluster: Cluster, granted):
    async with process(database, cluster.url) as ledger:
        checks = Checks(ledger, redis, database)
        ledger.adopt(await admit(database, redis))
        ready = await checks.standing()
        assert (True, []) == (ready.serves, list(ready.failing))
        its = shards_of(cluster, 2)
        cluster.server_of(2).kill()
        ready = await checks.standing()
        assert (True, [f"shard:{shard}" for shard in its]) == (ready.serves, list(ready.failing))
        ledger.adopt(await admit(database, redis))
        assert ready == await checks.standing()


@pytest.mark.parametrize("command", ["migrate", "unfence --reason x --yes", "doctor", "restore --yes"])
async def test_a_command_says_in_a_line_that_the_address_is_a_nodes(
    database_url, redis_url, cluster: Cluster, granted, command
):
    ran = lastro(
        *command.split(),
        LASTRO_DATABASE_URL=database_url,
        LASTRO_REDIS_URL=cluster.url.replace("redis+cluster:", "redis:"),
        LASTRO_QUEUE_URL=redis_url,
        LASTRO_SHARDS=str(SHARDS),
    )
    said = ran.stdout + ran.stderr
    assert 2 == ran.returncode or command == "doctor"
    assert "Traceback" not in said
    assert "is a node of a cluster (cluster-enabled yes). Write redis+cluster://" in said


@pytest.mark.parametrize("command", ["migrate", "unfence --reason x --yes", "restore --yes", "doctor"])
async def test_a_command_says_in_a_line_that_the_address_is_no_clusters(
    database, database_url, redis_url, command
):
    await give_birth(database_url, redis_url, SHARDS)
    ran = lastro(
        *command.split(),
        LASTRO_DATABASE_URL=database_url,
        LASTRO_REDIS_URL=redis_url.replace("redis:", "redis+cluster:"),
        LASTRO_QUEUE_URL=redis_url,
        LASTRO_SHARDS=str(SHARDS),
    )
    said = ran.stdout + ran.stderr
    assert 2 == ran.returncode or command == "doctor"
    assert "Traceback" not in said
    assert "This Redis is no cluster (cluster-enabled no). Write redis://" in said


@pytest.mark.parametrize("is_node", [True, False])
async def test_a_ledger_at_a_wrong_address_stays_up_and_says_why_to_whoever_asks(
    database, database_url, redis_url, cluster: Cluster, is_node
):
    right = cluster.url if is_node else redis_url
    await give_birth(database_url, right, SHARDS)
    right_one, wrong = ("redis+cluster:", "redis:") if is_node else ("redis:", "redis+cluster:")
    address = right.replace(right_one, wrong)
    redis, aside = connect(address), connect(address)
    ledger = Ledger(redis, PostgresBacking(database, partial(admit, database, aside)), Limits())
    await ledger.start()
    try:
        with pytest.raises(LedgerUnavailable) as error:
            await ledger.deduct(Deduct(account=ACCOUNTS[0], amount=1))
        assert f"Write {right_one}// instead of {wrong}// in LASTRO_REDIS_URL" in error.value.facts["why"]
    finally:
        await ledger.stop()
        await redis.aclose()
        await aside.aclose()

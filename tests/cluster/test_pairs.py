"""Two servers behind one address, as a proxy, a floating address or Sentinel has them: no cluster, and like
events. The replica takes the place of its primary, and nobody changes a setting.
"""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from redis import Redis as BlockingRedis

from app.embedded import Valkey
from app.ledger.connection import connect
from app.ledger.operations import Deduct, Grant
from persistence.acknowledged import look
from persistence.birth import give_birth
from persistence.drain import drain
from tests.chaos.proxy import Proxy
from tests.chaos.scenes import answered
from tests.conftest import PASSWORD
from tests.integration.books import assert_conserved, assert_equal
from tests.integration.ledgers import SHARDS, process
from tests.replicating import Following, following


@pytest.fixture
def pair(own_valkey: Valkey, reachable_tmp_path: Path) -> Iterator[Following]:
    with following(own_valkey, reachable_tmp_path, PASSWORD) as pair:
        yield pair


@pytest.fixture
async def address(pair: Following) -> AsyncIterator[Proxy]:
    """Where clients find whoever is the primary."""
    async with Proxy(pair.primary.url) as address:
        yield address


def spend() -> Deduct:
    return Deduct(account="ana", amount=1)


@pytest.mark.parametrize(
    ("follows", "is_journaled", "left"),
    [(True, False, 996), (False, True, 996), (False, False, 1000)],
    ids=["it has all", "the journal has what it lacks", "nobody has what it lacks"],
)
async def test_a_replica_that_takes_over_behind_the_same_address_is_admitted_and_goes_on(
    database, database_url, pair, address, follows, is_journaled, left
):
    """What nobody has is reported to be lost, and is not in a balance either."""
    (replica,) = pair.replicas
    await give_birth(database_url, address.url, SHARDS)
    async with process(database, address.url, seconds=10.0) as ledger:
        await ledger.grant(Grant(account="ana", amount=1000))
        with BlockingRedis.from_url(pair.primary.url) as primary:
            primary.set("in step", 2)
            assert 1 == primary.wait(1, 10_000)
        if not follows:
            pair.cut_off(replica)
        for _ in range(4):
            await ledger.deduct(spend())
        if is_journaled:
            await drain(database_url, address.url, 0.5, keep=None)
        if follows:
            with BlockingRedis.from_url(pair.primary.url) as primary:
                primary.set("in step", 3)
                assert 1 == primary.wait(1, 10_000)
        pair.promote(replica).close()
        await address.lead_to(replica.url)
        assert left == (await answered(lambda: ledger.balance("ana"))).account.available
        assert left - 1 == (await ledger.deduct(spend())).account.available
        await drain(database_url, address.url, 0.5, keep=None)
        assert bool(await look(database, ledger.acknowledged)) == (left == 1000)
        async with connect(address.url) as redis:
            assert (6 if left == 996 else 2) == await assert_equal(database, redis)
    await assert_conserved(database)

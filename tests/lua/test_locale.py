"""A Redis of another country: the script decides the same there, because the journal adds up the same."""

import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import pytest

from app.ledger.connection import connect
from app.ledger.operations import Deduct, Grant, Original, Refund
from app.ledger.refunds import left_of
from app.ledger.shards import TransactionId
from persistence import folding
from tests.lua.conftest import RedisServer, founded
from tests.lua.direct import ANA, SHARD, Direct

LOCALE = "en_US.UTF-8"
BUCKETS = ["alpha", "Zulu", "pack10", "pack-2"]
"""By the bytes Zulu stands before alpha and pack-2 before pack10; over there it is the other way round."""


class Abroad(RedisServer):
    """`redis-server` as a machine starts it whose language is not C."""

    def environment(self) -> Mapping[str, str]:
        return {**super().environment(), "LC_ALL": LOCALE, "LOCPATH": str(self.folder())}


@pytest.fixture(scope="module")
def server_abroad(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Abroad]:
    tools = shutil.which("redis-server"), shutil.which("localedef")
    if None in tools:
        pytest.skip("no redis-server, or nothing to make a locale with")
    folder: Path = tmp_path_factory.mktemp("abroad")
    made = [str(tools[1]), "-i", "en_US", "-f", "UTF-8", str(folder / LOCALE)]
    subprocess.run(made, capture_output=True, check=False)
    if not (folder / LOCALE).is_dir():
        pytest.skip("the sources of the locale are not on this machine")
    server = Abroad(folder, folder / "redis.log", password="sesame", appendonly="no")
    server.start()
    yield server
    server.kill()


@pytest.fixture
async def abroad(server_abroad: Abroad) -> AsyncIterator[Direct]:
    async with connect(server_abroad.url) as client:
        await client.flushall()
        yield await founded(client)


async def test_the_server_does_order_texts_by_another_locale(abroad: Direct):
    assert await abroad.redis.eval("return tostring('alpha' < 'Zulu')", 0) == b"true"


async def test_lots_that_one_refund_fills_again_stand_as_the_journal_has_them(abroad: Direct):
    for bucket in BUCKETS:
        await abroad.do(Grant(account=ANA, amount=10, bucket=bucket, open=True))
    spent, _, _ = await abroad.do(Deduct(account=ANA, amount=40))
    transaction = str(TransactionId(SHARD, spent.entry.incarnation, spent.sequence))
    original = Original(transaction=transaction, left=left_of(spent.entry))
    await abroad.do(Refund(account=ANA, originals=[original]))

    account = folding.Account(ANA, SHARD, 0, 0)
    for each in await abroad.journal.entries(SHARD):
        account.fold(each.entry)
    stored = [each.bucket for each in (await abroad.account()).lots]
    assert stored == [lot.bucket for lot in account.lots] == ["Zulu", "alpha", "pack-2", "pack10"]

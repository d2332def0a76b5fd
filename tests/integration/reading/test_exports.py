"""An export has everything that was journaled when it began, once, and nothing else."""

import asyncio
import subprocess
import sys
from contextlib import contextmanager
from itertools import pairwise

import pytest

from app.ledger.shards import shard_of
from app.reports import InvalidCursor, TransactionFilter
from persistence import history as history_module
from persistence import listing
from persistence.history import PostgresHistory
from tests.integration.rows import MORNING, SHARDS
from tests.integration.test_history import walk

EVERYTHING = TransactionFilter()
ACCOUNTS = ["acc-1", "acc-2", "acc-3"]


SHARD = "INSERT INTO shards (shard, head) VALUES ($1, $2)"


@pytest.fixture
async def history(database, monkeypatch):
    monkeypatch.setattr(history_module, "EXPORT_ROWS", 4)
    await database.executemany(SHARD, [(shard, bytes(32)) for shard in range(SHARDS)])
    return PostgresHistory(database)


async def everything(found):
    return [each async for page in found for each in page]


@pytest.mark.parametrize(
    "which",
    [
        EVERYTHING,
        TransactionFilter(account="acc-2"),
        TransactionFilter(account="acc-2", kinds=("granted",)),
        TransactionFilter(kinds=("deducted", "lapsed")),
        TransactionFilter(model="video"),
        TransactionFilter(since=MORNING),
        TransactionFilter(account="acc-1", since=MORNING, until=MORNING.replace(second=59)),
        TransactionFilter(account="nobody"),
    ],
    ids=str,
)
async def test_an_export_has_what_the_pages_of_its_filter_have_in_their_order(history, rows, which):
    for number in range(40):
        kind, model = ("granted", "deducted", "lapsed")[number % 7 % 3], (None, "video")[number % 2]
        await rows.append(ACCOUNTS[number % 3], after_ms=1000 * number - 9000, kind=kind, model=model)
    paged = await walk(history, which, 7)
    assert paged == await everything(history.export(which))
    assert bool(paged) == (which.account != "nobody")


@pytest.mark.parametrize("which", [EVERYTHING, TransactionFilter(account="acc-1")], ids=str)
async def test_nothing_that_is_journaled_after_it_began_comes(history, rows, which):
    for number in range(20):
        await rows.append("acc-1", after_ms=10 * number)
    found = []
    async for page in history.export(which):
        found += page
        await rows.append("acc-1", after_ms=1000)
        await rows.append("acc-2", after_ms=5)  # of a shard that is behind: in the middle of what is exported
    assert list(range(20, 0, -1)) == [each.entry.version for each in found]


async def test_an_export_goes_on_where_a_page_ended(history, rows):
    for number in range(9):
        await rows.append(ACCOUNTS[number % 3], after_ms=number)
    page = await history.transactions(EVERYTHING, limit=3)
    rest = await everything(history.export(EVERYTHING, cursor=page.next_cursor))
    assert await walk(history, EVERYTHING, 200) == page.data + rest
    with pytest.raises(InvalidCursor):
        await anext(history.export(TransactionFilter(account="acc-1"), cursor=page.next_cursor))


@contextmanager
def writers(url, *accounts):
    """Processes that append entries meanwhile, one for each of `accounts`."""
    command = [sys.executable, "-m", "tests.integration.reading.writer", url]
    started = [subprocess.Popen([*command, account]) for account in accounts]
    try:
        yield
    finally:
        for each in started:
            each.kill()
            each.wait()


HAVE_BEGUN = "SELECT account FROM journal GROUP BY account HAVING count(*) >= 50"


async def test_pages_and_exports_are_exact_while_other_processes_write_into_all_shards(
    history, database, database_url
):
    # Each process numbers its own account; accounts of different shards, so that no two use one sequence.
    accounts = ["acc-1", "acc-2", "acc-4"]
    assert 3 == len({shard_of(account, SHARDS) for account in accounts})
    with writers(database_url, *accounts):
        async with asyncio.timeout(30):
            while len(await database.fetch(HAVE_BEGUN)) < len(accounts):  # noqa: ASYNC110 - what it polls is polled
                await asyncio.sleep(0.05)
        for _ in range(3):
            for account in accounts:
                walked = [
                    each.entry.version for each in await walk(history, TransactionFilter(account=account), 20)
                ]
                assert list(range(walked[0], 0, -1)) == walked
            there = {tuple(row) for row in await database.fetch("SELECT shard, seq FROM journal")}
            walked = [
                (each.entry.at_ms, each.shard, each.sequence) for each in await walk(history, EVERYTHING, 50)
            ]
            assert all(later > earlier for later, earlier in pairwise(walked))
            assert there <= {(shard, sequence) for _, shard, sequence in walked}
            exported = [
                (each.entry.at_ms, each.shard, each.sequence)
                for each in await everything(history.export(EVERYTHING))
            ]
            assert all(later > earlier for later, earlier in pairwise(exported))
            for shard in {shard for _, shard, _ in exported}:
                sequences = [sequence for _, of, sequence in exported if of == shard]
                assert list(range(len(sequences), 0, -1)) == sequences


SELDOM = [
    TransactionFilter(model="rare"),
    TransactionFilter(kinds=("adjusted",)),
    TransactionFilter(account="acc-1", model="rare"),
    TransactionFilter(account="acc-1", kinds=("adjusted", "lapsed"), model="rare"),
    TransactionFilter(model="none"),
    TransactionFilter(account="acc-1", model="none"),
]


@pytest.mark.parametrize("which", SELDOM, ids=str)
@pytest.mark.parametrize("looked", [5, 6, 30])
async def test_a_filter_that_hardly_anything_passes_goes_on_in_the_next_page(
    history, rows, which, looked, monkeypatch
):
    monkeypatch.setattr(listing, "LOOKED_MAX", looked)
    for number in range(30):
        kind, model = ("granted", "adjusted")[number % 11 == 0], ("usual", "rare")[number % 7 == 0]
        await rows.append(ACCOUNTS[number % 2], after_ms=number, kind=kind, model=model)
    everything_there = await walk(history, TransactionFilter(account=which.account), 4)
    expected = [
        each
        for each in everything_there
        if which.model in (None, each.entry.model) and (not which.kinds or each.entry.kind in which.kinds)
    ]
    assert expected == await walk(history, which, 2)
    assert expected == await everything(history.export(which))
    if looked == 5:
        assert (await history.transactions(which, limit=4)).has_more

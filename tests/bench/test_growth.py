"""The growth of a ledger in small: what is made is a true ledger, and what is told of it was found."""

from functools import partial
from pathlib import Path

import pytest
from redis import Redis

from tests.bench import table
from tests.bench.bed import Bed, execute, fetch, run
from tests.bench.figures import Line, Samples
from tests.bench.filled import Size, fill
from tests.bench.growing import DEDUCTS, Grown
from tests.bench.remaking import Reconciled, Restored, Verified, reconciled, restored, verified
from tests.bench.rows import growth
from tests.bench.rows.growth import Found
from tests.bench.sizes import Sizes, Told
from tests.bench.weights import Weights

SIZES = Sizes(rounds=1, seconds=0.1, growth_max=200)


LOSE_ONE = """
ALTER TABLE journal DISABLE TRIGGER USER;
DELETE FROM journal WHERE (shard, seq) = (SELECT shard, seq FROM journal ORDER BY at DESC LIMIT 1)
"""


UNLINKED = """
SELECT shard, seq FROM (
  SELECT shard, seq, entry::jsonb->>'previous_nonce' AS previous,
    lag(entry::jsonb->>'nonce', 1, 'genesis') OVER (PARTITION BY shard ORDER BY seq) AS before
  FROM journal
) AS calls WHERE previous IS DISTINCT FROM before
"""


@pytest.mark.nightly("three ledgers, filled, restored, reconciled and verified")
def test_ledgers_that_grow_are_right_and_measured(told: Told):
    """Restore, reconcile and verify say so themselves; what the load wrote is counted again."""
    with Bed() as bed:
        small, large = growth.grow(bed, (100, 200), SIZES, told)
    assert (small.accounts, small.holds, small.rows) == (100, 10, 1010)
    assert (large.accounts, large.holds, large.rows) == (200, 20, 2020)
    for found in (small, large):
        assert found.wrong == 0
        assert found.standing.restored.loaded == found.accounts + found.holds
        assert found.standing.verified.rows == found.rows
        assert found.standing.weights.keys["account"] == found.accounts
        assert found.standing.weights.keys["reservation"] == found.holds
        assert 50 < found.standing.weights.account < found.standing.weights.reservation < 2_000
        assert 50 < found.keyed_bytes < 1_000
        assert found.standing.questions["overview"].median > 0
    assert small.share.values == [1.0]


def test_a_mismatch_is_found_in_entries_and_in_balances():
    with Bed() as bed:
        grown = Grown(bed, 100)
        grown.restore()
        grown.load(0.05)
        assert grown.mismatches() == 0
        with Redis.from_url(grown.valkey.url) as redis:
            (name, *_) = redis.keys("lastro:{*}:account:*")
            text = redis.get(name)
            redis.set(name, text.replace(b'"version":', b'"version":1'))
            assert grown.mismatches() == 1
            redis.delete(name)
            assert grown.mismatches() == 1
            redis.set(name, text)
        run(execute(grown.database_url, LOSE_ONE))
        assert grown.mismatches() == 1


def test_many_writers_write_the_same_ledger_as_one(monkeypatch: pytest.MonkeyPatch):
    size = Size(300, 10, DEDUCTS, 30)
    with Bed() as bed:
        for worth_it in (size.rows, size.rows + 1):
            monkeypatch.setattr("tests.bench.filled._WORTH_IT", worth_it)
            valkey, database_url = bed.born("none")
            run(fill(database_url, size))
            counts = "SELECT kind, count(*), sum(amount) FROM journal GROUP BY kind ORDER BY kind"
            assert [tuple(row) for row in run(fetch(database_url, counts))] == [
                ("deducted", 2700, 27_000),
                ("granted", 300, 300_000_000),
                ("reserved", 30, 300),
            ]
            assert run(fetch(database_url, UNLINKED)) == []
            assert verified(database_url).rows == size.rows
            restored(bed.folder, database_url, valkey, size)
            reconciled(database_url, valkey, size, full=True)  # refuses what does not add up


def found(accounts: int, *, share: float = 1.0, wrong: int = 0) -> Found:
    weights = Weights(
        {"account": 200 * accounts, "reservation": 60 * accounts, "holds": 0, "due": 0},
        {"account": accounts, "reservation": accounts // 10},
    )
    standing = growth.Standing(
        Restored({"load": 2.0, "compare": 3.0}, accounts + accounts // 10, 2**20), weights, Samples([1.5]),
        Reconciled(0.004 * accounts, 7, 1.0), Verified(1.0, 10 * accounts),
        {"overview": Samples([4.0, 5.0]), "usage": Samples([9.0, 8.0])},
    )  # fmt: skip
    return Found(
        accounts, accounts // 10, 10 * accounts, standing, Samples([1000 * share]), Samples([1000.0]),
        Samples([30.0]), Samples([20.0]), 160.0, wrong,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("most", "reached"),
    [
        (partial(found, 1_000_000, share=0.91), True),
        (partial(found, 1_000_000, share=0.89), False),
        (partial(found, 1_000_000, share=0.91, wrong=1), False),
        (partial(found, 100_000, share=0.91), None),
        (partial(found, 100_000, share=0.91, wrong=1), False),
    ],
)
def test_only_a_million_accounts_reach_what_is_asked_and_a_mismatch_never_does(most, reached):
    rate, weight, restore = growth.lines([found(1_000), most()])
    assert rate.reached is reached
    assert weight.figure == "200 an account, 600 an open reservation, 160 more for an operation with a key"
    assert restore.figure == f"5 s, {1.1 * most().accounts / 5:,.0f}/s"
    assert "usage, 8.50" in restore.beside
    assert rate.repeat == f"python -m tests.bench --rows 10 --growth-max {most().accounts}"


def test_the_document_has_the_growth_with_its_picture_and_keeps_the_soak(tmp_path: Path):
    document = tmp_path / "benchmarks.md"
    (tmp_path / "images").mkdir()
    document.write_text("# Benchmarks\n", encoding="utf-8")
    lines = [Line("4", "clients", "7/s", beside="p50 1 ms"), *growth.lines([found(1_000), found(10_000)])]
    soak = Line("soak", "an hour", "level", "level", True, "api 1 to 1 MiB", "python -m tests.bench.soak")
    machine = {"processor": "one"}
    table.write(lines, machine, SIZES, document)
    table.write_soak(soak, machine, document)
    once = document.read_text(encoding="utf-8")
    table.write(lines, machine, SIZES, document)
    assert document.read_text(encoding="utf-8") == once
    table.write_soak(soak, machine, document)
    assert document.read_text(encoding="utf-8") == once
    assert "| 4 | clients | 7/s |  |  | `python -m tests.bench --rows 4` |" in once
    assert "| 10,000 | 100,000 | 1,000 | 100% | 30.0 / 20.0 ms | 200 | 600 | 160 |" in once
    assert "![Cost against size](images/growth.svg)" in once
    assert once.count("## Soak") == 1
    assert "| soak | an hour | level | level | reached | `python -m tests.bench.soak` |" in once
    assert (tmp_path / "images" / "growth.svg").read_text(encoding="utf-8").startswith("<svg ")

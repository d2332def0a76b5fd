"""What the journal says of keys: what was answered to them, and how far it is."""

import json

from app.ledger.backing import Extent, Keyed, Recorded, Refunded
from app.ledger.shards import new_reservation_id
from persistence.backing import PostgresBacking
from tests.integration.plans import nodes
from tests.integration.rows import MORNING_MS, Rows
from tests.integration.test_backing import admitted

F, G = "f" * 16, "g" * 16


async def test_the_journal_says_how_far_it_is_of_what_it_does_not_know(database):
    backing, rows = PostgresBacking(database, admitted), Rows(database)
    shard, sequence, _ = await rows.append("ana", kind="deducted", key="k", fingerprint=F, after_ms=7)
    other = shard + 1
    asked = [Keyed(of, id_, "?", F, at) for of, id_ in (("a", "ana"), ("r", new_reservation_id(0, 1)))
             for at in (shard, other)]  # fmt: skip
    here, nothing = Extent(sequence, MORNING_MS + 7), Extent(0, 0)
    assert [here, nothing] * 2 == [(await backing.answered(asked))[each] for each in asked]
    assert {(shard, sequence): Refunded(0, here), (other, 5): Refunded(0, nothing)} == await backing.refunded(
        [(shard, sequence), (other, 5)]
    )


async def test_the_journal_finds_keys_by_whose_they_are_and_what_they_were_used_for(database):
    backing, rows = PostgresBacking(database, admitted), Rows(database)
    id_ = new_reservation_id(3, 1)
    await rows.append("ana", kind="deducted", key="k", fingerprint=F)
    await rows.append("ana", kind="deducted", key="k", fingerprint=G)
    await rows.append("ana", kind="deducted", key="k", fingerprint=G)
    await rows.append("ana", kind="deducted", key="nameless")
    await rows.append("ana", kind="refunded", key="r", fingerprint=F, reservation=id_)
    for kind in ("confirmed", "cancelled", "extended", "bound"):
        await rows.append("ana", kind=kind, key=kind, fingerprint=F, reservation=id_)
    await rows.append("ana", kind="deducted", key="k")
    await rows.append("bia", kind="granted", key="k", fingerprint=F)

    async def found(*asked: tuple[str, str, str, str]) -> list[tuple[str, int] | None]:
        wanted = [Keyed(*each, 0) for each in asked]
        answers = await backing.answered(wanted)
        rows = [answers[each] for each in wanted]
        return [(each.entry.account, each.sequence) if isinstance(each, Recorded) else None for each in rows]

    assert [("ana", 1), ("ana", 2), ("ana", 1), ("bia", 1), None] == await found(
        ("a", "ana", "k", F), ("a", "ana", "k", G), ("a", "ana", "k", "x"), ("a", "bia", "k", F),
        ("a", "eva", "k", F),
    )  # fmt: skip
    assert [("ana", 4), ("ana", 5), None] == await found(
        ("a", "ana", "nameless", F), ("a", "ana", "r", F), ("r", id_, "r", F)
    )
    kinds = ("confirmed", "cancelled", "extended", "bound")
    assert [("ana", 6), ("ana", 7), ("ana", 8), ("ana", 9)] == await found(*(("r", id_, k, F) for k in kinds))
    assert [None] * 4 == await found(*(("a", "ana", kind, F) for kind in kinds))
    assert {} == await backing.answered([])
    assert {} == await backing.refunded([])


def scans(explained: str) -> list[tuple[str, str | None]]:
    """Kind and index of every node."""
    plan = json.loads(explained)[0]["Plan"]
    return [(each["Node Type"], each.get("Index Name")) for each in nodes(plan)]


async def test_a_thousand_keys_are_one_question_and_no_walk_through_the_journal(database):
    rows = Rows(database)
    for i in range(20):
        await rows.append("ana", kind="deducted", key=f"k{i}", fingerprint=F)
    wanted = [Keyed("a", "ana", f"k{i}", F, 0) for i in range(1000)]
    statement = PostgresBacking.ANSWERED_TO["a"]
    columns = [[each[i] for each in wanted] for i in (1, 2, 3, 4)]
    async with database.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off")
        plan = await connection.fetchval(f"EXPLAIN (FORMAT JSON) {statement}", *columns)
        columns[0] = [new_reservation_id(0, 1)] * 1000
        answered = PostgresBacking.ANSWERED_TO["r"]
        of_reservations = await connection.fetchval(f"EXPLAIN (FORMAT JSON) {answered}", *columns)
    looked = [*scans(plan), *scans(of_reservations)]
    for index in ("journal_operation_key", "journal_pkey", "journal_task", "journal_reservation"):
        assert index in {each for _, each in looked}, looked
    assert not {"Seq Scan", "Bitmap Heap Scan"} & {node for node, _ in looked}, looked
    answers = (await PostgresBacking(database, admitted).answered(wanted)).values()
    assert (1000, 20) == (len(answers), sum(isinstance(each, Recorded) for each in answers))

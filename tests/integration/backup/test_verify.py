"""I11: the first row that was changed, removed or added is named, whatever else was changed with it."""

import re

import pytest

from app.ledger.entries import chained, genesis
from persistence.verify import CannotVerify, Head, verify
from tests.integration.backup.books import tamper

CHANGED = "Row 5 of shard 1 was changed: "


async def test_a_journal_as_it_was_written_is_proved_whole(connection):
    verdict = await verify(connection, since=1)
    assert verdict.findings == []
    assert verdict.rows == await connection.fetchval("SELECT count(*) FROM journal") > 200
    heads = await connection.fetch("SELECT head FROM shards ORDER BY shard")
    assert [each.head for each in verdict.shards] == [row["head"].hex() for row in heads]


async def test_a_proof_goes_on_where_the_last_one_ended(database, living, journal_all):
    async with database.acquire() as connection:
        await living.run(10)
        await journal_all()
        before = await verify(connection)
        assert (await verify(connection)).rows == 0
        await living.run(5)
        await journal_all()
        after = await verify(connection)
        assert after.rows == await connection.fetchval("SELECT count(*) FROM journal") - before.rows > 0
        assert [each.first for each in after.shards] == [each.last + 1 for each in before.shards]
        assert (await verify(connection, since=1)).rows == before.rows + after.rows


ALTER = """
UPDATE journal SET entry = replace(entry, '{"v":1,', '{"v":1,"more":1,') WHERE shard = 1 AND seq = 5
"""

MOVE_UP = """
DELETE FROM journal WHERE shard = 1 AND seq = 5;
UPDATE journal SET seq = seq + 10000 WHERE shard = 1 AND seq > 5;
UPDATE journal SET seq = seq - 10001 WHERE shard = 1 AND seq > 10000;
UPDATE shards SET cursor = cursor - 1 WHERE shard = 1
"""

MOVE_DOWN = """
UPDATE journal SET seq = seq + 10000 WHERE shard = 1 AND seq >= 5;
UPDATE journal SET seq = seq - 9999 WHERE shard = 1 AND seq > 10000;
INSERT INTO journal
  SELECT 1, 5, incarnation, at, kind, 'somebody', 1, amount, available, held, reservation, task, model,
    operation_key, by, entry, hash FROM journal WHERE shard = 1 AND seq = 4;
UPDATE shards SET cursor = cursor + 1 WHERE shard = 1
"""

ADD = """
INSERT INTO journal
  SELECT shard, seq + 1, incarnation, at, kind, 'somebody', 1, amount, available, held, reservation, task,
    model, operation_key, by, entry, hash FROM journal WHERE shard = 1 ORDER BY seq DESC LIMIT 1
"""

TAMPERED = {
    "its entry": (ALTER, CHANGED + "its entry does not lead to its hash"),
    "its hash": (
        r"UPDATE journal SET hash = sha256('other') WHERE shard = 1 AND seq = 5",
        CHANGED + "its hash is not the one that the next row goes on from",
    ),
    "a column": (
        "UPDATE journal SET available = available + 1 WHERE shard = 1 AND seq = 5",
        CHANGED + r"its column available says \d+; its entry says \d+",
    ),
    "its account": (
        "UPDATE journal SET account = 'ana' WHERE shard = 1 AND seq = 5",
        CHANGED + "its column account says ana; its entry says account-",
    ),
    "its time": (
        "UPDATE journal SET at = at - interval '1 ms' WHERE shard = 1 AND seq = 5",
        CHANGED + "its column at says",
    ),
    "deleted": ("DELETE FROM journal WHERE shard = 1 AND seq = 5", "Row 5 of shard 1 is missing."),
    "deleted, the others moved up": (MOVE_UP, "Row 5 of shard 1 is missing: the rows after it were moved up"),
    "all deleted": ("DELETE FROM journal WHERE shard = 1", "Row 1 of shard 1 is missing."),
    "inserted": (MOVE_DOWN, "Row 5 of shard 1 was added: the next row is the one that stood in its place"),
    "appended": (ADD, r"Row \d+ of shard 1 was added: its journal ends at \d+"),
    "a shard of its own": (
        ADD.replace("SELECT shard, seq + 1", "SELECT 3, 1"),
        "Row 1 of shard 3 was added: the ledger has no such shard",
    ),
    "a whole shard": (
        """
        DELETE FROM journal WHERE shard = 1; DELETE FROM notes WHERE shard = 1;
        DELETE FROM shards WHERE shard = 1
        """,
        "Shard 1 is missing: the ledger has 3.",
    ),
    "notes for a row to come": (
        "INSERT INTO notes SELECT 1, cursor + 1, 'x' FROM shards WHERE shard = 1",
        r"The notes of row \d+ of shard 1 were added: its journal is 1 to",
    ),
    "notes of a shard of its own": (
        "INSERT INTO notes VALUES (3, 5, 'x')",
        "The notes of row 5 of shard 3 were added: the ledger has no such shard",
    ),
    "the last ones, with the cursor": (
        """
        UPDATE shards SET cursor = cursor - 2 WHERE shard = 1;
        DELETE FROM journal WHERE shard = 1 AND seq > (SELECT cursor FROM shards WHERE shard = 1)
        """,
        "The head of shard 1 was changed",
    ),
    "the link": (
        "UPDATE shards SET link = 'x' WHERE shard = 1",
        "The link of shard 1 was changed: it says x",
    ),
    "the head": (
        "UPDATE shards SET head = sha256('x') WHERE shard = 1",
        "The head of shard 1 was changed: it says 2d711642",
    ),
}


@pytest.mark.parametrize("how", TAMPERED)
async def test_a_row_that_is_not_as_it_was_written_is_named(connection, how):
    statement, said = TAMPERED[how]
    await tamper(connection, statement)
    verdict = await verify(connection, since=1)
    assert [each.shard for each in verdict.findings] == [3 if "shard 3" in said else 1]
    assert re.match(said, verdict.findings[0].why), verdict.findings


async def test_an_entry_that_no_row_can_be_of_is_named_though_its_chain_fits(connection):
    await _rewrite(connection, 1, 5, lambda text: re.sub(r'"at_ms":\d+', '"at_ms":9007199254740991', text))
    finding = (await verify(connection, since=1)).findings[0]
    assert finding.why.startswith("The entry of row 5 of shard 1 cannot be read: ")


async def test_a_proof_does_not_believe_that_it_went_beyond_the_end(connection):
    await tamper(
        connection, TAMPERED["a column"][0], "UPDATE shards SET verified_seq = 1000000 WHERE shard > 0"
    )
    first, second = (await verify(connection)).findings
    assert re.match(TAMPERED["a column"][1], first.why)
    assert re.match(r"How far shard 2 was proved was changed: it says up to row 1000000", second.why)
    (again,) = (await verify(connection)).findings
    assert again == first, "the false note is gone, and what it hid is still named"


async def test_a_proof_that_found_something_finds_it_again(connection):
    await tamper(connection, TAMPERED["deleted"][0])
    first = await verify(connection)
    assert await connection.fetchval("SELECT verified_seq FROM shards WHERE shard = 1") == 4
    assert (await verify(connection)).findings == first.findings


NOTED = "SELECT min(seq) FROM notes WHERE shard = 1"


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE notes SET text = text || ' ' WHERE {row}", "were changed or added"),
        ("DELETE FROM notes WHERE {row}", "are missing, and nobody has erased them by `lastro erase`"),
        (
            "INSERT INTO erasures (shard, seq, by, reason) VALUES (1, {seq}, 'x', 'x')",
            "were erased, and are there again",
        ),
        (
            """
            UPDATE notes SET seq = (SELECT min(seq) FROM journal WHERE shard = 1 AND entry !~ 'notes')
            WHERE {row}
            """,
            "were changed or added|are missing",
        ),
    ],
)
async def test_notes_that_are_not_those_that_were_written_are_found(connection, statement, said):
    sequence = await connection.fetchval(NOTED)
    await tamper(connection, statement.format(row=f"shard = 1 AND seq = {sequence}", seq=sequence))
    finding = (await verify(connection, since=1)).findings[0]
    assert finding.what == "notes"
    assert re.search(said, finding.why)


async def test_notes_that_were_erased_are_erased_not_changed(connection):
    sequence = await connection.fetchval(NOTED)
    await connection.execute("DELETE FROM notes WHERE shard = 1 AND seq = $1", sequence)
    await connection.execute(
        "INSERT INTO erasures (shard, seq, by, reason) VALUES (1, $1, 'x', 'x')", sequence
    )
    verdict = await verify(connection, since=1)
    assert (verdict.findings, verdict.erased) == ([], 1)


def _more(text: str) -> str:
    return text.replace('{"v":1,', '{"v":1,"more":1,')


async def _rewrite(connection, shard: int, since: int, change=_more) -> None:
    """What somebody does who knows how: change a row, and compute everything after it anew."""
    ledger = await connection.fetchval("SELECT id FROM ledger")
    rows = await connection.fetch("SELECT seq, entry FROM journal WHERE shard = $1 ORDER BY seq", shard)
    head = genesis(ledger.bytes, shard)
    statements = []
    for sequence, text in rows:
        entry = text if sequence != since else change(text)
        head = chained(head, shard, sequence, entry.encode())
        statements.append(
            f"UPDATE journal SET entry = $x${entry}$x$, hash = '\\x{head.hex()}' "
            f"WHERE shard = {shard} AND seq = {sequence}"
        )
    await tamper(connection, *statements, f"UPDATE shards SET head = '\\x{head.hex()}' WHERE shard = {shard}")


async def test_a_chain_that_was_computed_anew_is_found_by_a_head_kept_elsewhere(connection):
    kept = [Head(1, sequence, await _hash(connection, 1, sequence)) for sequence in (4, 5, 20)]
    assert (await verify(connection, heads=kept)).findings == []
    await _rewrite(connection, shard=1, since=5)
    assert (await verify(connection, since=1)).findings == []
    finding = (await verify(connection, heads=kept)).findings[0]
    assert finding.why.startswith(
        "The head of row 5 of shard 1 is not the one that was kept: one of the rows"
    )
    assert (await verify(connection, heads=kept[:1])).findings == []
    assert (await verify(connection, heads=kept, since=30)).findings[0].sequence == 5


async def test_a_head_beyond_the_journal_says_that_rows_are_missing(connection):
    cursor = await connection.fetchval("SELECT cursor FROM shards WHERE shard = 2")
    finding = (await verify(connection, heads=[Head(2, cursor + 3, bytes(32))])).findings[0]
    assert finding.why == (
        f"Row {cursor + 1} of shard 2 is missing: its journal ends at {cursor}, and a head of row "
        f"{cursor + 3} was kept."
    )


CUT_OFF = """
DELETE FROM journal WHERE shard = 1 AND seq > 50;
DELETE FROM notes WHERE shard = 1 AND seq > 50;
UPDATE shards SET cursor = 50, verified_seq = 0, link = entry::json->>'nonce', head = hash
FROM journal WHERE journal.shard = 1 AND shards.shard = 1 AND seq = 50
"""


async def test_an_end_that_was_cut_off_with_all_that_speaks_of_it_is_found_by_a_head_kept_elsewhere(
    connection,
):
    last = await connection.fetchval("SELECT cursor FROM shards WHERE shard = 1")
    kept = [Head(1, last, await _hash(connection, 1, last))]
    await tamper(connection, CUT_OFF)
    assert (await verify(connection, since=1)).findings == []
    (finding,) = (await verify(connection, heads=kept)).findings
    assert finding.why.startswith("Row 51 of shard 1 is missing: its journal ends at 50, and a head of row")


async def test_heads_of_another_ledger_are_refused_or_found(connection):
    with pytest.raises(CannotVerify, match="has 3 shards, and none with the number 3"):
        await verify(connection, heads=[Head(3, 1, bytes(32))])
    with pytest.raises(CannotVerify, match="Two of the heads are of row 5 of shard 1, and differ"):
        await verify(connection, heads=[Head(1, 5, bytes(32)), Head(1, 5, b"x" * 32)])
    finding = (await verify(connection, heads=[Head(0, 0, bytes(32))])).findings[0]
    assert finding.why == "The head of shard 0 before its first row is another ledger's."


@pytest.mark.parametrize(
    "only",
    [
        "SET LOCAL transaction_read_only = on",
        """
        CREATE ROLE auditor; GRANT SELECT ON ledger, shards, journal, notes, erasures TO auditor;
        SET LOCAL ROLE auditor
        """,
    ],
)
async def test_whoever_may_only_read_may_prove(connection, only):
    await connection.execute(only)
    assert (await verify(connection)).rows == (await verify(connection)).rows > 200


async def test_there_must_be_a_ledger(second):
    with pytest.raises(CannotVerify, match="no ledger"):
        await verify(second)


async def _hash(connection, shard: int, sequence: int) -> bytes:
    return await connection.fetchval(
        "SELECT hash FROM journal WHERE shard = $1 AND seq = $2", shard, sequence
    )

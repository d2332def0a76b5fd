"""Proves that the journal is what was written: recomputes the hash chain of every shard, page by page.

Every column of a row is derived from its entry again and compared, and notes with their salted hash. How far
a shard was proved is kept, and the next proof goes on from there. Nothing else is written, and nothing is
mended: what is found is named.

Whoever may change rows may change hashes and heads too. Then only a head that was kept elsewhere (an export's
manifest) tells, and a proof against one recomputes everything that leads to it.
"""

from collections.abc import Callable, Sequence
from typing import Literal

from msgspec import Struct

from persistence.pool import Connection
from persistence.proving import Finding, Head, Proved, Standing, Walk

__all__ = ["CannotVerify", "Finding", "Head", "Proved", "Verdict", "verify"]


class CannotVerify(Exception):
    """There is nothing to prove, or nothing to prove it against; the text says why."""


class Verdict(Struct, frozen=True):
    """What was recomputed. `rows` counts all, `erased` those whose notes were erased on purpose."""

    ledger: str
    rows: int
    erased: int
    findings: list[Finding]
    shards: list[Proved]


LEDGER = "SELECT id, shards FROM ledger WHERE born"

# In one statement, so that a batch that is committed meanwhile is seen whole or not at all.
STANDINGS = """
SELECT shard, cursor, link, head, verified_seq,
  (SELECT min(seq) FROM journal WHERE journal.shard = shards.shard AND seq > cursor) AS added,
  least(
    (SELECT min(seq) FROM notes WHERE notes.shard = shards.shard AND seq > cursor),
    (SELECT min(seq) FROM notes WHERE notes.shard = shards.shard AND seq < 1)
  ) AS noted
FROM shards ORDER BY shard
"""

STRANGERS = """
(SELECT shard, seq, 'Row' AS what FROM journal WHERE shard < 0 OR shard >= $1 ORDER BY shard, seq LIMIT 1)
UNION ALL
(SELECT shard, seq, 'The notes of row' FROM notes WHERE shard < 0 OR shard >= $1 ORDER BY shard, seq LIMIT 1)
"""


async def verify(
    connection: Connection,
    *,
    since: int | None = None,
    heads: Sequence[Head] = (),
    ledger: str | None = None,
    expect: Callable[[int], None] = lambda _rows: None,
    seen: Callable[[int], None] = lambda _rows: None,
) -> Verdict:
    """Recompute the chains of all shards.

    Args:
        connection: Outside any transaction; it is read, but for the note of how far the proof came.
        since: The first sequence of each shard that is recomputed, 1 for all. By default the first that was
            not yet; with `heads`, all.
        heads: What must be in these chains.
        ledger: Whose heads they are.
        expect: Told once how many rows there are to recompute.
        seen: Told now and then how many more were.

    Raises:
        CannotVerify: There is no ledger, it is another one, or it does not have the shard of a head.
    """
    row = await connection.fetchrow(LEDGER)
    if row is None:
        raise CannotVerify("This database has no ledger.")
    found, shards = row["id"], row["shards"]
    if ledger not in (None, str(found)):
        raise CannotVerify(f"The heads are those of ledger {ledger}; this database has {found}.")
    _demand_possible(heads, shards)
    standings = [Standing(*row) for row in await connection.fetch(STANDINGS)]
    first = since or (1 if heads else None)
    walks = [Walk(connection, found.bytes, each, since=first, heads=heads, seen=seen) for each in standings]
    expect(sum(max(0, walk.standing.cursor - walk.first + 1) for walk in walks))
    proved = [await walk.walk() for walk in walks]
    findings = [each.finding for each in proved if each.finding is not None]
    for shard in sorted(set(range(shards)) ^ {each.shard for each in standings}):
        what: Literal["missing", "added"] = "missing" if shard < shards else "added"
        why = f"Shard {shard} {'is missing' if what == 'missing' else 'was added'}: the ledger has {shards}."
        findings.append(Finding(shard, 1, what, why))
    for shard, sequence, of in await connection.fetch(STRANGERS, shards):
        why = f"{of} {sequence} of shard {shard} {'was' if of == 'Row' else 'were'} added: "
        findings.append(Finding(shard, sequence, "added", f"{why}the ledger has no such shard."))
    rows = sum(each.last - each.first + 1 for each in proved)
    return Verdict(str(found), rows, sum(each.erased for each in proved), findings, proved)


def _demand_possible(heads: Sequence[Head], shards: int) -> None:
    """Raises `CannotVerify` for heads that no chain of this ledger can have."""
    if strange := [head.shard for head in heads if not 0 <= head.shard < shards]:
        raise CannotVerify(f"This ledger has {shards} shards, and none with the number {strange[0]}.")
    known: dict[tuple[int, int], bytes] = {}
    for shard, sequence, digest in heads:
        if known.setdefault((shard, sequence), digest) != digest:
            raise CannotVerify(
                f"Two of the heads are of row {sequence} of shard {shard}, and differ: one of them was kept "
                "wrong. Prove against each by itself."
            )

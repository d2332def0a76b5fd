"""Whether the journal of a shard is there without gaps, and ends where its row says."""

import msgspec
from msgspec import Struct

from persistence.pool import Connection
from persistence.reconcile.drift import Drift

GAPS = """
SELECT count(*) AS rows, count(DISTINCT seq) AS places, max(seq) AS last FROM journal
WHERE shard = $1 AND seq > $2 AND seq <= $3
"""

FIRST_GAP = """
SELECT seq FROM (
  SELECT seq, lag(seq, 1, $2::bigint) OVER (ORDER BY seq) AS before FROM journal
  WHERE shard = $1 AND seq > $2 AND seq <= $3
) AS rows WHERE seq <> before + 1 ORDER BY seq LIMIT 1
"""


async def gap(connection: Connection, shard: int, after: int, cursor: int) -> int | None:
    """The first sequence between `after` and `cursor` that the journal of a shard lacks, or has twice."""
    row = await connection.fetchrow(GAPS, shard, after, cursor)
    assert row is not None
    if row["rows"] == row["places"] == cursor - after:
        return None
    following: int | None = await connection.fetchval(FIRST_GAP, shard, after, cursor)
    if following is None:  # what is there is whole, and ends too early
        return int(row["last"] or after) + 1
    before: int | None = await connection.fetchval(
        "SELECT max(seq) FROM journal WHERE shard = $1 AND seq < $2", shard, following
    )
    return max(after, before or 0) + 1


# One statement is one moment.
END = """
SELECT s.cursor, s.link, s.head, j.entry, j.hash,
  (SELECT min(seq) FROM journal beyond WHERE beyond.shard = s.shard AND beyond.seq > s.cursor) AS beyond
FROM shards s LEFT JOIN journal j ON (j.shard, j.seq) = (s.shard, s.cursor)
WHERE s.shard = $1
"""


class _Linked(Struct):
    nonce: str


_decode_linked = msgspec.json.Decoder(_Linked).decode


async def end_faults(connection: Connection, shard: int) -> list[Drift]:
    """Where a shard does not end with its last row; a row that is missing is for `gap` to find."""
    row = await connection.fetchrow(END, shard)
    assert row is not None, "a shard without a row"
    found = []
    if row["beyond"] is not None:
        found.append(Drift("", f"journal.{shard}.{row['beyond']}", "there", f"the end is {row['cursor']}"))
    if row["entry"] is None:
        return found
    try:
        nonce = _decode_linked(row["entry"]).nonce
    except msgspec.MsgspecError:
        nonce = "unreadable"
    head, hashed = row["head"].hex(), row["hash"].hex()
    for field, said, expected in (("link", row["link"], nonce), ("head", head, hashed)):
        if said != expected:
            found.append(Drift("", f"projection.{shard}.{field}", said, expected))
    return found

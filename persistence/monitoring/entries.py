"""Some entries of the journal, as the statements that add them up see them."""

Taken = tuple[list[int], list[int], list[int]]
"""Shards, after which entry of each, and up to which: $1 to $3 of every statement with `{entries}`."""

# The limit bounds nothing: it makes PostgreSQL walk along the index of each shard, whatever it thinks of it.
ENTRIES = """
WITH entries AS (
  SELECT entry.*, date_bin('15 minutes', at, 'epoch') AS start
  FROM unnest($1::integer[], $2::bigint[], $3::bigint[]) AS taken (shard, after, upto), LATERAL (
    SELECT shard, seq, at, kind, account, amount, reservation, model, journal.entry AS text FROM journal
    WHERE journal.shard = taken.shard AND seq > taken.after AND seq <= taken.upto
    ORDER BY seq LIMIT 1000000
  ) AS entry
)
"""

SPANS = """
LATERAL (
  VALUES ('quarter', start), ('hour', date_bin('1 hour', start, 'epoch')),
    ('day', date_bin('1 day', start, 'epoch')), ('ever', 'epoch'::timestamptz)
) AS spans (span, begin)
"""


def woven(statement: str) -> str:
    """A statement with `{entries}` as its first table expression, and in `{spans}` the spans of a `start`."""
    return statement.replace("{entries}", ENTRIES.strip()).replace("{spans}", SPANS.strip())

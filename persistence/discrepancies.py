"""Words for a row that is not as it was written: was it changed, is one missing before it, was it added?

The rows after it tell: each carries the hash of everything before it, and its own number is hashed too.
"""

from typing import Literal

from asyncpg import Record

from app.ledger.entries import chained
from persistence.rows import JOURNAL, Row


def what_happened(
    head: bytes, row: Record, following: Record | None = None
) -> tuple[Literal["changed", "missing", "added"], str]:
    """What became of a row whose hash does not follow from `head`, the chain's head before it, and its text.

    Args:
        head: 32 bytes; everything up to there is proved.
        row: With `shard`, `seq`, `entry` and `hash`.
        following: The row that comes next, if there is one.
    """
    shard, sequence = row["shard"], row["seq"]
    which = f"Row {sequence} of shard {shard}"
    computed = chained(head, shard, sequence, row["entry"].encode())
    if following is not None and following["seq"] == sequence + 1:
        text, stored = following["entry"].encode(), following["hash"]
        if chained(head, shard, sequence, text) == stored:
            return "added", f"{which} was added: the next row is the one that stood in its place."
        if chained(row["hash"], shard, sequence + 2, text) == stored:
            why = f"{which} is missing: the rows after it were moved up by one, and their numbers changed."
            return "missing", why
        if chained(computed, shard, sequence + 1, text) == stored:
            why = f"{which} was changed: its hash is not the one that the next row goes on from."
            return "changed", why
    why = f"{which} was changed: its entry does not lead to its hash"
    return "changed", why + (
        f" (or row {sequence - 1} was, together with its hash)." if sequence > 1 else "."
    )


def column_that_differs(row: Record, derived: Row) -> str:
    """The first column that says something else than the entry.

    Args:
        row: Its first columns are those of `JOURNAL`.
        derived: What the entry makes of them.
    """
    name, said, meant = next(
        (name, said, meant) for name, said, meant in zip(JOURNAL, row, derived, strict=False) if said != meant
    )
    which = f"Row {row['seq']} of shard {row['shard']}"
    return f"{which} was changed: its column {name} says {said}; its entry says {meant}."

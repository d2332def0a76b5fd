"""Where a reconciliation goes on, as it is kept in its row; and the row of one that begins.

What has to be read in full differs. Comparing Redis with the projections costs as much as there are
accounts, and is always done for all. Adding up the legs costs as much as there are entries: it is done for
all when somebody asks for it (`full`), and otherwise for a slice of the accounts that goes around once in
`SLICES` runs, a day at one every 10 minutes. Between two turns the entries are proved when they are
journaled, and by `lastro verify`.
"""

from typing import Literal
from zlib import crc32

import msgspec
from msgspec import Struct

from persistence.pool import Connection
from persistence.reconcile import sums
from persistence.reconcile.drift import as_jsonb

SLICES = 144


class Position(Struct):
    """Where a run goes on. `phase`: what is walked along; `shard` and `after` among the journal's accounts,
    or what it gave back (`until`: up to there); `scan` is Redis' own place among its keys. `turn`: which
    slice is added up; `cursors`: up to where each shard's sequences are without gaps.
    """

    full: bool
    turn: int
    cursors: list[int]
    phase: Literal["accounts", "strays", "reservations", "due", "refunds", "given", "end"] = "accounts"
    shard: int = 0
    after: str = ""
    until: int = 0
    scan: int = 0
    drifts: int = 0
    unknown: list[str] = []
    totals: sums.Totals = msgspec.field(default_factory=sums.Totals)

    def adds_up(self, account: str) -> bool:
        """Whether all entries of an account are read in this run."""
        return self.full or crc32(account.encode()) % SLICES == self.turn


decode_position = msgspec.json.Decoder(Position).decode

LAST = """
SELECT position FROM reconciliations WHERE finished_at IS NOT NULL AND position IS NOT NULL
ORDER BY started_at DESC LIMIT 1
"""

BEGIN = "INSERT INTO reconciliations (by, position) VALUES ($1, $2::jsonb) RETURNING id::text"


async def begin(connection: Connection, by: str, *, full: bool) -> str:
    """Record a run that has not done anything yet, and return its id."""
    last = await connection.fetchval(LAST)
    before = None if last is None else decode_position(last)
    position = Position(
        full=full,
        turn=(before.turn + 1) % SLICES if before else 0,
        cursors=[] if full or before is None else before.cursors,
    )
    name: str = await connection.fetchval(BEGIN, by, as_jsonb(position))
    return name

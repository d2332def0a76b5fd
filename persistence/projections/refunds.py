"""The table `refunds`: how much of a transaction was given back so far."""

from collections.abc import Sequence

import msgspec

from app.ledger.entries import Entry
from app.ledger.shards import TransactionId
from app.ledger.stream import Line
from persistence.folding import Original, give_back, takes_a_lost_place
from persistence.pool import Connection

_decode = msgspec.json.Decoder(Entry).decode


class Refunds:
    """The rows of what a batch gives back."""

    def __init__(self, shard: int) -> None:
        self._shard = shard
        self._originals: dict[int, Original] = {}

    # Only of an entry that nobody can be paid back for it is asked why it stands there.
    ORIGINALS = """
    SELECT seq, incarnation, account, kind, amount, CASE WHEN kind = 'adjusted' THEN entry END AS entry,
      coalesce(refunded, 0) AS refunded
    FROM journal LEFT JOIN refunds USING (shard, seq) WHERE shard = $1 AND seq = ANY($2)
    """

    async def load(self, connection: Connection, refunding: Sequence[Line], lines: Sequence[Line]) -> None:
        """Read what `refunding` name; some of it may stand in `lines`, the whole batch."""
        named = {TransactionId.parse(line.entry.refund_of or "") for line in refunding}
        wanted = {each.sequence for each in named if each is not None}
        for line in lines:
            if line.sequence in wanted:
                self._originals[line.sequence] = _original(line.entry)
        before = list(wanted - self._originals.keys())
        for row in await connection.fetch(self.ORIGINALS, self._shard, before):
            sequence, incarnation, account, kind, amount, entry, refunded = row
            is_lost = entry is not None and takes_a_lost_place(_decode(entry))
            self._originals[sequence] = Original(incarnation, account, kind, amount, is_lost, refunded)

    def fold(self, line: Line) -> None:
        """Raises `Contradiction`."""
        give_back(line.entry, line.sequence, self._shard, self._originals)

    PUT = """
    INSERT INTO refunds (shard, seq, refunded)
    SELECT $1, * FROM unnest($2::bigint[], $3::bigint[])
    ON CONFLICT (shard, seq) DO UPDATE SET refunded = excluded.refunded
    """

    async def store(self, connection: Connection) -> None:
        given = {sequence: each.refunded for sequence, each in self._originals.items() if each.refunded}
        if given:
            await connection.execute(self.PUT, self._shard, list(given), list(given.values()))


def _original(entry: Entry) -> Original:
    is_lost = takes_a_lost_place(entry)
    return Original(entry.incarnation, entry.account, entry.kind, entry.amount, is_lost)

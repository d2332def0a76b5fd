"""Rows as the journal worker writes them, for tests of those who read them. The hash chain is left out."""

from datetime import UTC, datetime, timedelta

import msgspec

from app.ledger.entries import Entry, Notes, seal
from app.ledger.shards import shard_of
from persistence.months import MAKE
from persistence.pool import Pool

SHARDS = 16
MORNING = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
MORNING_MS = 1_767_323_045_678

APPEND = """
INSERT INTO journal (shard, seq, incarnation, at, kind, account, version, amount, available, held,
                     reservation, task, model, operation_key, by, entry, hash)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10,
        $11::text::uuid, $12, $13, $14, $15, $16, $17)
"""

NOTE = "INSERT INTO notes (shard, seq, text) VALUES ($1, $2, $3)"

ACCOUNT = """
INSERT INTO accounts (account, shard, version, available, held, opened_at, last_at)
VALUES ($1, $2, $3, 0, 0, $4, $4) ON CONFLICT (account) DO UPDATE SET version = $3, last_at = $4
"""

CURSOR = """
INSERT INTO shards (shard, cursor, head) VALUES ($1, $2, $3)
ON CONFLICT (shard) DO UPDATE SET cursor = excluded.cursor
"""


class Rows:
    """Appends entries, numbering shards and versions. `after_ms` counts from `MORNING`."""

    def __init__(self, database: Pool) -> None:
        self._database = database
        self._sequences: dict[int, int] = {}
        self._versions: dict[str, int] = {}

    def skip(self, account: str) -> None:
        """The next version of the account, and its entry, never come."""
        self._versions[account] += 1

    async def append(self, account: str, *, after_ms: int = 0, notes: Notes | None = None, **fields: object):
        """An entry of 5 credits granted, or as `fields` say. Returns `(shard, sequence, entry)`."""
        shard = shard_of(account, SHARDS)
        sequence = self._sequences[shard] = self._sequences.get(shard, 0) + 1
        version = self._versions[account] = self._versions.get(account, 0) + 1
        sealed = notes and seal(notes.reason, notes.resource, notes.metadata)
        entry = Entry(
            **{
                "format": 1, "kind": "granted", "at_ms": MORNING_MS + after_ms, "account": account,
                "version": version, "amount": 5, "available": 5 * version, "held": 0, "legs": [],
                "incarnation": 1, "nonce": f"n{shard}-{sequence}", "by": "key:test",
                "notes": sealed and sealed.hash,
            }
            | fields
        )  # fmt: skip
        at = MORNING + timedelta(milliseconds=after_ms)
        async with self._database.acquire() as connection, connection.transaction():
            await connection.execute(MAKE, [at])
            await connection.execute(
                APPEND, shard, sequence, entry.incarnation, at, entry.kind, account, version, entry.amount,
                entry.available, entry.held, entry.reservation, entry.task, entry.model, entry.key, entry.by,
                msgspec.json.encode(entry).decode(), bytes(32),
            )  # fmt: skip
            if sealed:
                await connection.execute(NOTE, shard, sequence, sealed.text)
            await connection.execute(ACCOUNT, account, shard, version, at)
            await connection.execute(CURSOR, shard, sequence, bytes(32))
        return shard, sequence, entry

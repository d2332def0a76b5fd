"""What PostgreSQL knows and Redis may not: the durable side of the engine (`app.ledger.backing.Backing`)."""

from collections.abc import Awaitable, Callable
from uuid import UUID

import msgspec

from app.ledger.backing import Recorded, Terms
from app.ledger.entries import Entry
from app.ledger.replies import Reservation
from persistence import rebuild
from persistence.pool import Pool, answering

decode_entry = msgspec.json.Decoder(Entry).decode


class PostgresBacking:
    """`Backing` over a pool. Every method raises `BackingUnavailable` while PostgreSQL is away."""

    def __init__(self, pool: Pool, admit: Callable[[], Awaitable[Terms]]) -> None:
        """`admit` is `persistence.admission`'s, bound to the Redis that this process uses."""
        self._pool = pool
        self._admit = admit

    async def admit(self) -> Terms:
        return await self._admit()

    ACCOUNT_KNOWN = "SELECT EXISTS (SELECT FROM accounts WHERE account = $1)"

    async def account_known(self, account: str) -> bool:
        async with answering(self._pool) as connection:
            return bool(await connection.fetchval(self.ACCOUNT_KNOWN, account))

    ENTRY = """
    SELECT entry, text FROM journal LEFT JOIN notes USING (shard, seq) WHERE shard = $1 AND seq = $2
    """

    async def entry(self, shard: int, sequence: int) -> Recorded | None:
        async with answering(self._pool) as connection:
            row = await connection.fetchrow(self.ENTRY, shard, sequence)
        entry = None if row is None else decode_entry(row["entry"])
        if row is None or entry is None or entry.adopted is not None:
            return None  # what stands in the place of a lost entry is not what was answered then
        return Recorded(sequence, entry, row["text"])

    async def reservation(self, reservation_id: str) -> Reservation | None:
        try:
            UUID(reservation_id)
        except ValueError:
            return None
        async with answering(self._pool) as connection:
            found = await rebuild.reservations(connection, [reservation_id])
        return found.get(reservation_id)

    # Redis may have forgotten the task and bound it again: the latest binding counts, not the latest hold.
    TASK = """
    SELECT r.id::text FROM reservations r
    LEFT JOIN journal bound ON (bound.shard, bound.seq) = (r.shard, r.bound_seq)
    WHERE r.task = $1 AND r.provider IS NOT DISTINCT FROM $2
    ORDER BY coalesce(bound.at, r.created_at) DESC, r.id DESC LIMIT 1
    """

    async def task(self, provider: str | None, task: str) -> str | None:
        async with answering(self._pool) as connection:
            found: str | None = await connection.fetchval(self.TASK, task, provider)
        return found

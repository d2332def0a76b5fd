"""What PostgreSQL knows and Redis may not: the durable side of the engine (`app.ledger.backing.Backing`)."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from uuid import UUID

import msgspec
from asyncpg import Record

from app.ledger.backing import Recorded, Terms
from app.ledger.entries import Entry, Notes
from app.ledger.replies import Reservation
from persistence.pool import Pool, answering

decode_entry = msgspec.json.Decoder(Entry).decode
_decode_notes = msgspec.json.Decoder(Notes).decode
_NOTHING_NOTED = Notes(salt="")


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
        return None if row is None else Recorded(sequence, decode_entry(row["entry"]), row["text"])

    RESERVATION = """
    SELECT r.*, made.text AS made_notes, bound.text AS bound_notes, ended.text AS ended_notes
    FROM reservations r
    LEFT JOIN notes made ON (made.shard, made.seq) = (r.shard, r.reserved_seq)
    LEFT JOIN notes bound ON (bound.shard, bound.seq) = (r.shard, r.bound_seq)
    LEFT JOIN notes ended ON (ended.shard, ended.seq) = (r.shard, r.ended_seq)
    WHERE r.id = $1
    """

    async def reservation(self, reservation_id: str) -> Reservation | None:
        try:
            uuid = UUID(reservation_id)
        except ValueError:
            return None
        async with answering(self._pool) as connection:
            row = await connection.fetchrow(self.RESERVATION, uuid)
        return None if row is None else _reservation(row)

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


def _reservation(row: Record) -> Reservation:
    made, bound, ended = (_notes(row[each]) for each in ("made_notes", "bound_notes", "ended_notes"))
    return Reservation(
        format=1,
        id=str(row["id"]),
        account=row["account"],
        status=row["status"],
        reserved=row["reserved"],
        captured=row["captured"],
        charged=row["charged"],
        released=row["released"],
        held=row["held"],
        legs=[],
        expires_at_ms=_ms(row["expires_at"]),
        created_at_ms=_ms(row["created_at"]),
        reserved_sequence=row["reserved_seq"],
        bound_sequence=row["bound_seq"],
        ended_sequence=row["ended_seq"],
        settled_at_ms=row["settled_at"] and _ms(row["settled_at"]),
        cancel_cause=row["cancel_cause"],
        cancel_reason=ended.reason if row["status"] == "cancelled" else None,
        late=row["late"],
        extensions=row["extensions"],
        task=row["task"],
        provider=row["provider"],
        resource=bound.resource or made.resource,
        model=row["model"],
        metadata=made.metadata,
    )


def _notes(text: str | None) -> Notes:
    return _NOTHING_NOTED if text is None else _decode_notes(text)


def _ms(at: datetime) -> int:
    """Exact: `timestamp()` is a float, whose last digits a division may bend."""
    whole = at.replace(microsecond=0)
    return int(whole.timestamp()) * 1000 + at.microsecond // 1000

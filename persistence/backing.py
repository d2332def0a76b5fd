"""What PostgreSQL knows and Redis may not: the durable side of the engine (`app.ledger.backing.Backing`)."""

from collections.abc import Awaitable, Callable, Sequence
from typing import ClassVar
from uuid import UUID

import msgspec
from asyncpg import Record

from app.ledger.backing import Extent, Keyed, Recorded, Refunded, Terms
from app.ledger.entries import Entry
from app.ledger.replies import Reservation
from persistence import rebuild
from persistence.binding import binds
from persistence.pool import Pool
from persistence.silence import Patient

decode_entry = msgspec.json.Decoder(Entry).decode


class PostgresBacking:
    """`Backing` over a pool. Every method raises `BackingUnavailable` while PostgreSQL is away."""

    def __init__(self, pool: Pool, admit: Callable[[], Awaitable[Terms]]) -> None:
        """`admit` is `persistence.admission`'s, bound to the Redis that this process uses."""
        self._patient = Patient(pool)
        self._admit = admit

    async def admit(self) -> Terms:
        return await self._admit()

    ACCOUNTS_KNOWN = "SELECT account FROM accounts WHERE account = ANY($1::text[])"

    async def accounts_known(self, accounts: Sequence[str]) -> set[str]:
        async with self._patient.answering() as connection:
            return {account for (account,) in await connection.fetch(self.ACCOUNTS_KNOWN, accounts)}

    RECORDED = """
    SELECT shard, seq, entry, text
    FROM unnest($1::int[], $2::bigint[]) AS asked(shard, seq)
    JOIN journal USING (shard, seq) LEFT JOIN notes USING (shard, seq)
    """

    async def recorded(self, places: Sequence[tuple[int, int]]) -> dict[tuple[int, int], Recorded]:
        async with self._patient.answering() as connection:
            rows = await connection.fetch(self.RECORDED, *_columns(places))
        found = {(row["shard"], row["seq"]): _recorded(row) for row in rows}
        # What stands in the place of a lost entry is not what was answered then.
        return {place: each for place, each in found.items() if each.entry.adopted is None}

    async def reservations(self, ids: Sequence[str]) -> dict[str, Reservation]:
        async with self._patient.answering() as connection:
            return await rebuild.reservations(connection, [each for each in ids if _is_uuid(each)])

    # Redis may have forgotten the task and bound it again: the latest binding counts, not the latest hold.
    # What stands in the place of a lost entry only says it again. OFFSET makes PostgreSQL look each up in the
    # index of each month, rather than read what all tasks are bound to.
    TASKS = f"""
    SELECT DISTINCT ON (n) n, reservation::text AS reservation FROM (
      SELECT asked.n, bound.reservation, min(bound.at) AS since
      FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS asked(provider, task, n)
      JOIN LATERAL (
        SELECT its.reservation, its.at, its.entry::json ->> 'provider' AS provider FROM journal its
        WHERE its.task = asked.task AND {binds("its")} OFFSET 0
      ) AS bound ON bound.provider IS NOT DISTINCT FROM asked.provider
      GROUP BY 1, 2
    ) AS bindings
    ORDER BY n, since DESC, reservation DESC
    """  # noqa: S608

    async def tasks(self, tasks: Sequence[tuple[str | None, str]]) -> dict[tuple[str | None, str], str]:
        async with self._patient.answering() as connection:
            rows = await connection.fetch(self.TASKS, *_columns(tasks))
        return {tasks[row["n"] - 1]: row["reservation"] for row in rows}

    # How far the journal is, seen by the same statement, so that it fits what was found or not found.
    EXTENT = """
    coalesce(shards.cursor, 0) AS cursor, coalesce((
      SELECT extract(epoch FROM at) * 1000 FROM journal WHERE (shard, seq) = (shards.shard, shards.cursor)
    ), 0)::bigint AS at_ms
    """

    # A key is an account's or a reservation's, and the kind of an entry says whose: the account of a confirm
    # may have used the same key. `IS TRUE`: a fingerprint that an entry lacks is not the same.
    ANSWERED = f"""
    SELECT asked.n, found.seq, found.entry, notes.text, {EXTENT}
    FROM unnest($1::text[], $2::text[], $3::text[], $4::int[]) WITH ORDINALITY
      AS asked(id, key, fingerprint, shard, n)
    LEFT JOIN LATERAL (
      SELECT shard, seq, entry FROM journal
      WHERE {{whose}} AND operation_key = asked.key
      ORDER BY (entry::json ->> 'fingerprint' = asked.fingerprint) IS TRUE DESC, shard, seq LIMIT 1
    ) AS found ON true
    LEFT JOIN notes ON (notes.shard, notes.seq) = (found.shard, found.seq)
    LEFT JOIN shards ON shards.shard = asked.shard
    """  # noqa: S608
    OF_RESERVATION = "('confirmed', 'cancelled', 'extended', 'bound')"
    # The same content under the same key for an earlier reservation of its task: that one was meant.
    EARLIER = f"""
    SELECT earlier.reservation FROM journal latest, LATERAL (
      SELECT bound.reservation, bound.entry FROM journal bound
      WHERE bound.task = latest.task AND {binds("bound")} OFFSET 0
    ) AS earlier
    WHERE latest.reservation = asked.id::uuid AND {binds("latest")}
      AND earlier.reservation <> latest.reservation
      AND earlier.entry::json ->> 'provider' IS NOT DISTINCT FROM latest.entry::json ->> 'provider'
    """  # noqa: S608
    OF_THIS_OR_EARLIER = f"""
    kind IN {OF_RESERVATION} AND reservation = ANY(ARRAY({EARLIER}) || asked.id::uuid) AND (
      reservation = asked.id::uuid OR (kind <> 'bound' AND entry::json ->> 'fingerprint' = asked.fingerprint)
    )
    """
    ANSWERED_TO: ClassVar = {
        "a": ANSWERED.format(whose=f"account = asked.id AND kind NOT IN {OF_RESERVATION}"),
        "r": ANSWERED.format(whose=OF_THIS_OR_EARLIER),
    }

    async def answered(self, keys: Sequence[Keyed]) -> dict[Keyed, Recorded | Extent]:
        found: dict[Keyed, Recorded | Extent] = {}
        async with self._patient.answering() as connection:
            for of, statement in self.ANSWERED_TO.items():
                of_these = [each for each in keys if each.of == of]
                columns = _columns([each[1:] for each in of_these])
                for row in await connection.fetch(statement, *columns) if of_these else []:
                    found[of_these[row["n"] - 1]] = _extent(row) if row["entry"] is None else _recorded(row)
        return found

    REFUNDED = f"""
    SELECT asked.shard, asked.seq, coalesce(refunded, 0) AS refunded, {EXTENT}
    FROM unnest($1::int[], $2::bigint[]) AS asked(shard, seq)
    LEFT JOIN refunds ON (refunds.shard, refunds.seq) = (asked.shard, asked.seq)
    LEFT JOIN shards ON shards.shard = asked.shard
    """  # noqa: S608

    async def refunded(self, places: Sequence[tuple[int, int]]) -> dict[tuple[int, int], Refunded]:
        async with self._patient.answering() as connection:
            rows = await connection.fetch(self.REFUNDED, *_columns(places))
        return {(row["shard"], row["seq"]): Refunded(row["refunded"], _extent(row)) for row in rows}


def _columns(rows: Sequence[tuple[object, ...]]) -> list[list[object]]:
    """As `unnest` takes them: of pairs, where there are none."""
    return [list(column) for column in zip(*rows, strict=True)] or [[], []]


def _extent(row: Record) -> Extent:
    return Extent(row["cursor"], row["at_ms"])


def _recorded(row: Record) -> Recorded:
    return Recorded(row["seq"], decode_entry(row["entry"]), row["text"])


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True

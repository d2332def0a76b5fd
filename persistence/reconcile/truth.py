"""What the journal alone says of an account, from its first entry on; and its projections, rewritten by that.

Takes as long as the account has entries, and no more memory than its open reservations and what it was given
back.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
from asyncpg import Record
from msgspec import Struct

from app.ledger.entries import Entry, chained, genesis
from persistence import rebuild
from persistence.folding import Contradiction, Reservation
from persistence.pool import Connection
from persistence.projections import at
from persistence.projections.reservations import terms_of
from persistence.reconcile import refunds
from persistence.reconcile.hands import NotRepaired
from persistence.reconcile.state import State

ENTRIES_AT_ONCE = 2_000

_decode = msgspec.json.Decoder(Entry).decode


class _Line(NamedTuple):
    version: int
    sequence: int
    entry: Entry


class Rewritten(Struct, frozen=True):
    """What a projection said and says now; both empty when nothing was wrong."""

    before: dict[str, Any]
    after: dict[str, Any]

    def __bool__(self) -> bool:
        return self.before != self.after


ENTRIES = """
SELECT j.version, j.shard, j.seq, j.at, j.entry, j.hash, before.hash AS previous
FROM journal j LEFT JOIN journal before ON before.shard = j.shard AND before.seq = j.seq - 1
WHERE j.account = $1 AND j.version > $2 ORDER BY j.version LIMIT $3
"""

LEDGER = "SELECT id FROM ledger WHERE born"

LOCK = "SELECT cursor FROM shards WHERE shard = $1 FOR UPDATE"


async def rewrite(connection: Connection, shard: int, account: str) -> Rewritten:
    """Make the projections of an account what its entries add up to, inside the caller's transaction.

    The journal of the shard stands still until that ends.

    Raises:
        NotRepaired: The entries contradict each other; nothing was written.
    """
    await connection.execute(LOCK, shard)
    before, after = await _account_row(connection, account), {}
    state = State.of_nothing(account, shard)
    moments: dict[str, Any] = {}
    changed: dict[str, tuple[Any, Any]] = {}
    while rows := await connection.fetch(ENTRIES, account, state.account.version, ENTRIES_AT_ONCE):
        moments.setdefault("opened_at", rows[0]["at"])
        moments["last_at"] = rows[-1]["at"]
        lines = await _unchanged(connection, state, rows)
        await _resume(connection, state, lines)
        _fold(state, lines)
        ended = [each for each in state.reservations.values() if each.status != "pending"]
        _note(changed, await _rewrite_reservations(connection, shard, ended))
        for each in ended:
            del state.reservations[each.id]
    _note(changed, await _rewrite_reservations(connection, shard, state.open))
    await _drop_again(connection, changed)
    changed |= await _drop_strangers(connection, account)
    changed = {f"reservation.{id_}": pair for id_, pair in changed.items()}
    changed |= await refunds.rewrite(connection, account)
    after = await _rewrite_account(connection, state, moments)
    return Rewritten(
        before | {name: pair[0] for name, pair in changed.items()},
        after | {name: pair[1] for name, pair in changed.items()},
    )


def _note(changed: dict[str, tuple[Any, Any]], more: dict[str, tuple[Any, Any]]) -> None:
    """One that goes on after its end is written more than once; what it was at first is what it was."""
    for id_, (before, after) in more.items():
        first = changed.pop(id_, (before, None))[0]
        if first != after:
            changed[id_] = first, after


async def _unchanged(connection: Connection, state: State, rows: Sequence[Record]) -> list[_Line]:
    """Entries that follow the state, as they were journaled."""
    lines = []
    for row in rows:
        await _demand_unchanged(connection, state, row)
        try:
            lines.append(_Line(row["version"], row["seq"], _decode(row["entry"])))
        except msgspec.MsgspecError as error:
            raise _contradictory(state, row["seq"], str(error)) from error
    return lines


async def _resume(connection: Connection, state: State, lines: Sequence[_Line]) -> None:
    """A reservation that ended in an earlier page, and was written then, may still be bound, or confirmed
    late.
    """
    made = {entry.reservation for _, _, entry in lines if entry.kind == "reserved"}
    going_on = {entry.reservation for _, _, entry in lines if entry.kind == "bound" or entry.late} - made
    if ids := [each for each in going_on if each is not None and each not in state.reservations]:
        state.add((await rebuild.reservations(connection, ids)).values())


def _fold(state: State, lines: Sequence[_Line]) -> None:
    for version, sequence, entry in lines:
        if version != entry.version or entry.account != state.account.id:
            why = f"stands as version {version} and says {entry.version} of {entry.account}"
            raise _contradictory(state, sequence, why)
        try:
            state.fold(entry, sequence)
        except Contradiction as error:
            raise _contradictory(state, sequence, str(error)) from error


async def _demand_unchanged(connection: Connection, state: State, row: Record) -> None:
    """By what somebody has written into the journal nobody gets credits."""
    previous: bytes | None = row["previous"]
    if row["seq"] == 1:
        previous = genesis((await connection.fetchval(LEDGER)).bytes, row["shard"])
    if previous is None:
        raise _contradictory(state, row["seq"], "follows on nothing")
    if row["hash"] != chained(previous, row["shard"], row["seq"], row["entry"].encode()):
        raise _contradictory(state, row["seq"], "is not as it was journaled")


def _contradictory(state: State, sequence: int, why: str) -> NotRepaired:
    return NotRepaired(
        f"The journal contradicts itself about {state.account.id}: entry {sequence} {why}. Nothing can be "
        "put right by it. `lastro verify` names what was changed; restore PostgreSQL from a backup."
    )


ACCOUNT = """
SELECT shard, version, available, held, overdraft_limit, status, low_balance FROM accounts WHERE account = $1
"""

LOTS = """
SELECT bucket, expires_at_ms, priority, available, held, since FROM lots WHERE account = $1
ORDER BY bucket, expires_at_ms
"""


async def _account_row(connection: Connection, account: str) -> dict[str, Any]:
    row = await connection.fetchrow(ACCOUNT, account)
    lots = await connection.fetch(LOTS, account)
    return {"account": dict(row) if row else None, "lots": [list(each) for each in lots]}


PUT_ACCOUNT = """
INSERT INTO accounts (account, shard, version, available, held, opened_at, last_at, overdraft_limit, status,
  low_balance)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
ON CONFLICT (account) DO UPDATE SET shard = $2, version = $3, available = $4, held = $5,
  overdraft_limit = $8, status = $9, low_balance = $10
"""

DROP_ACCOUNT = "DELETE FROM accounts WHERE account = $1"

DROP_LOTS = "DELETE FROM lots WHERE account = $1"

PUT_LOTS = """
INSERT INTO lots (account, bucket, expires_at_ms, priority, available, held, since)
SELECT $1, * FROM unnest($2::text[], $3::bigint[], $4::integer[], $5::bigint[], $6::bigint[], $7::bigint[])
"""


async def _rewrite_account(connection: Connection, state: State, moments: dict[str, Any]) -> dict[str, Any]:
    account = state.account
    if account.version == 0:  # which no entry has made
        await connection.execute(DROP_LOTS, account.id)
        await connection.execute(DROP_ACCOUNT, account.id)
        return await _account_row(connection, account.id)
    await connection.execute(
        PUT_ACCOUNT, account.id, account.shard, account.version, account.available, account.held,
        moments["opened_at"], moments["last_at"], *account.settings,
    )  # fmt: skip
    lots = [
        (lot.bucket, lot.expires_at_ms, lot.priority, lot.available, lot.held, lot.since)
        for lot in account.lots
    ]
    await connection.execute(DROP_LOTS, account.id)
    if lots:
        await connection.execute(PUT_LOTS, account.id, *map(list, zip(*lots, strict=True)))
    return await _account_row(connection, account.id)


_FIELDS = (
    "account", "shard", "status", "reserved", "captured", "charged", "released", "held", "expires_at",
    "created_at", "settled_at", "cancel_cause", "task", "provider", "model", "reserved_seq", "bound_seq",
    "ended_seq", "late", "extensions", "parts", "over_capture", "on_expired", "price",
)  # fmt: skip

RESERVATIONS = f"SELECT id::text AS id, {', '.join(_FIELDS)} FROM reservations WHERE id = ANY($1::uuid[])"  # noqa: S608

PUT_RESERVATION = f"""
INSERT INTO reservations (id, {", ".join(_FIELDS)})
VALUES ($1::uuid, {", ".join(f"${n + 2}" for n in range(len(_FIELDS)))})
ON CONFLICT (id) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in _FIELDS)}
"""  # noqa: S608


async def _rewrite_reservations(
    connection: Connection, shard: int, of: Sequence[Reservation]
) -> dict[str, tuple[Any, Any]]:
    """Those that were not as they should be: before and after."""
    if not of:
        return {}
    rows = await connection.fetch(RESERVATIONS, [each.id for each in of])
    known = {row["id"]: tuple(row)[1:] for row in rows}
    changed: dict[str, tuple[Any, Any]] = {}
    for each in of:
        should = (
            each.account, shard, each.status, each.reserved, each.captured, each.charged, each.released,
            each.held, at(each.expires_at_ms), at(each.created_at_ms),
            None if each.settled_at_ms is None else at(each.settled_at_ms), each.cancel_cause, each.task,
            each.provider, each.model, each.reserved_seq, each.bound_seq, each.ended_seq, *terms_of(each),
        )  # fmt: skip
        if known.get(each.id) != should:
            await connection.execute(PUT_RESERVATION, each.id, *should)
            changed[each.id] = _shown(known.get(each.id)), _shown(should)
    return changed


def _shown(row: Sequence[Any] | None) -> dict[str, Any] | None:
    return None if row is None else dict(zip(_FIELDS, row, strict=True))


DROP_AGAIN = """
DELETE FROM reservations WHERE id = ANY($1::uuid[]) AND status <> 'pending'
  AND settled_at < (SELECT kept_from FROM cleanup)
RETURNING id::text AS id
"""


async def _drop_again(connection: Connection, changed: dict[str, tuple[Any, Any]]) -> None:
    """What clean-up had dropped was needed until the last entry was read, and is no change."""
    absent = [id_ for id_, (before, _) in changed.items() if before is None]
    for row in await connection.fetch(DROP_AGAIN, absent) if absent else []:
        del changed[row["id"]]


STRANGERS = f"""
DELETE FROM reservations r WHERE account = $1
  AND NOT EXISTS (SELECT FROM journal j WHERE j.reservation = r.id AND j.account = $1)
RETURNING id::text AS id, {", ".join(_FIELDS)}
"""  # noqa: S608


async def _drop_strangers(connection: Connection, account: str) -> dict[str, tuple[Any, Any]]:
    """Reservations of the account that no entry has ever made."""
    return {row["id"]: (_shown(tuple(row)[1:]), None) for row in await connection.fetch(STRANGERS, account)}


SNAPSHOT = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"


async def is_projected(connection: Connection, account: str, shard: int) -> bool:
    """Whether the tables of an account are what its entries add up to; a journal that contradicts itself
    adds up to nothing. Outside any transaction.
    """
    async with connection.transaction():
        await connection.execute(SNAPSHOT)
        known = await rebuild.accounts(connection, [account])
        if account not in known:
            return False
        if await refunds.wrong(connection, [account], [known[account].version]):
            return False
        opened = await rebuild.open_reservations_of(connection, [account])
        projected = State.of(account, shard, known[account], opened[account])
        state = State.of_nothing(account, shard)
        try:
            while rows := await connection.fetch(ENTRIES, account, state.account.version, ENTRIES_AT_ONCE):
                _fold(state, await _unchanged(connection, state, rows))
                for each in [each for each in state.reservations.values() if each.status != "pending"]:
                    del state.reservations[each.id]
        except NotRepaired:
            return False
    state.account.opened_at_ms = state.account.last_at_ms = 0
    return (state.account, _by_id(state.open)) == (projected.account, _by_id(projected.open))


def _by_id(reservations: Sequence[Reservation]) -> dict[str, Reservation]:
    return {each.id: each for each in reservations}

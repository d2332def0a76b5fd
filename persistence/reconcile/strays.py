"""Walks along what Redis has, for what the journal does not know: by SCAN, which holds nobody up.

Only a filter: what looks strange here, because the journal is a moment behind or ahead, is compared exactly
afterwards.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct
from redis.asyncio import Redis

from app.ledger import keys
from app.ledger.apart import scan_page
from app.ledger.replies import Reservation
from persistence import rebuild
from persistence.folding import Contradiction
from persistence.pool import Connection
from persistence.reconcile.drift import are_alike, decoded_reservation
from persistence.reconcile.state import is_reservation_id

SCANNED_AT_ONCE = 2_000

_ACCOUNT = keys.account(0, "")
_RESERVATION = keys.reservation(0, "")


class Walked(Struct):
    """`scan`: where to go on, 0 at the end. `suspicious`: by shard the accounts to compare, and which of
    their reservations with them.
    """

    scan: int
    suspicious: dict[int, dict[str, list[str]]]


KNOWN = "SELECT account FROM accounts WHERE account = ANY($1) AND shard = $2"


async def accounts_in_redis(connection: Connection, redis: Redis, scan: int, shards: int) -> Walked:
    """Some accounts that Redis has: those that the journal does not know in their shard are suspicious."""
    scan, named = await scanned(redis, scan, _ACCOUNT, shards)
    suspicious: dict[int, dict[str, list[str]]] = {}
    for shard, ids in named.items():
        known = {row["account"] for row in await connection.fetch(KNOWN, ids, shard)}
        if unknown := [each for each in ids if each not in known]:
            suspicious[shard] = {each: [] for each in unknown}
    return Walked(scan, suspicious)


async def reservations_in_redis(connection: Connection, redis: Redis, scan: int, shards: int) -> Walked:
    """Some reservations that Redis has: those that the journal does not have alike are suspicious."""
    scan, named = await scanned(redis, scan, _RESERVATION, shards)
    suspicious: dict[int, dict[str, list[str]]] = {}
    for shard, ids in named.items():
        texts: list[Any] = await redis.mget([keys.reservation(shard, each) for each in ids])
        journal = await _readable(connection, [each for each in ids if is_reservation_id(each)])
        strange: dict[str, list[str]] = defaultdict(list)
        for id_, text in zip(ids, texts, strict=True):
            if text is None:
                continue
            found, its = decoded_reservation(text), journal.get(id_)
            if found is None or its is None or not _alike(found, its):
                owner = its or found
                strange[owner.account if owner else ""].append(id_)
        strange.pop("", None)  # neither side knows whose it is, and nobody can reach it by an account
        if strange:
            suspicious[shard] = dict(strange)
    return Walked(scan, suspicious)


async def _readable(connection: Connection, ids: Sequence[str]) -> dict[str, Reservation]:
    """What the journal has of them; one that nobody can read does not hide the others."""
    try:
        return await rebuild.reservations(connection, ids)
    except (msgspec.MsgspecError, Contradiction):
        middle = len(ids) // 2
        halves = (ids[:middle], ids[middle:]) if middle else ()
        return {id_: each for half in halves for id_, each in (await _readable(connection, half)).items()}


async def scanned(redis: Redis, scan: int, prefix: str, shards: int) -> tuple[int, dict[int, list[str]]]:
    """Names under keys that begin like `prefix` (of shard 0), by shard."""
    head, _, tail = prefix.partition("{0}")
    scan, found = await scan_page(redis, scan, f"{head}{{*}}{tail}*", SCANNED_AT_ONCE)
    named: dict[int, list[str]] = defaultdict(list)
    for key in found:
        number, _, name = _text(key).removeprefix(head + "{").partition("}" + tail)
        if number.isdecimal() and int(number) < shards:
            named[int(number)].append(name)
    return scan, named


def _text(name: bytes) -> str:
    """As PostgreSQL can be asked for it."""
    return name.decode(errors="replace").replace("\x00", "\ufffd")


OPEN = "SELECT id::text AS id, account FROM reservations WHERE id = ANY($1::uuid[]) AND status = 'pending'"


async def what_is_due(connection: Connection, redis: Redis, scan: int, shard: int) -> Walked:
    """Some of what is due in a shard: of what has ended, or is nobody's, nothing can be."""
    found: Any
    scan, found = await redis.zscan(keys.due(shard), scan, count=SCANNED_AT_ONCE)
    accounts: set[str] = set()
    reservations: dict[str, str] = {}
    for member, _ in found:
        kind, _, name = _text(member).partition(":")
        if kind == "account":
            accounts.add(name)
        elif kind == "reservation":
            id_, _, account = name.partition(":")
            reservations[id_] = account
    known = {row["account"] for row in await connection.fetch(KNOWN, list(accounts), shard)}
    strange: dict[str, list[str]] = defaultdict(list, {account: [] for account in accounts - known})
    rows = await connection.fetch(OPEN, [each for each in reservations if is_reservation_id(each)])
    pending = {row["id"]: row["account"] for row in rows}
    for id_, account in reservations.items():
        if pending.get(id_) != account:
            strange[account].append(id_)
    return Walked(int(scan), {shard: dict(strange)} if strange else {})


def _alike(found: Reservation, its: Reservation) -> bool:
    """Open ones are compared with their accounts."""
    if found.status == "pending" and its.status == "pending":
        return found.account == its.account
    return are_alike(found, its)

"""Walks along what Redis has, for what the journal does not know: by SCAN, which holds nobody up.

Only a filter: what looks strange here, because the journal is a moment behind or ahead, is compared exactly
afterwards.
"""

from collections import defaultdict
from typing import Any
from uuid import UUID

from msgspec import Struct
from redis.asyncio import Redis

from app.ledger import keys
from app.ledger.replies import Reservation
from persistence import rebuild
from persistence.pool import Connection
from persistence.reconcile.drift import decoded_reservation

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
    scan, named = await _scanned(redis, scan, _ACCOUNT, shards)
    suspicious: dict[int, dict[str, list[str]]] = {}
    for shard, ids in named.items():
        known = {row["account"] for row in await connection.fetch(KNOWN, ids, shard)}
        if unknown := [each for each in ids if each not in known]:
            suspicious[shard] = {each: [] for each in unknown}
    return Walked(scan, suspicious)


async def reservations_in_redis(connection: Connection, redis: Redis, scan: int, shards: int) -> Walked:
    """Some reservations that Redis has: those that the journal does not have alike are suspicious."""
    scan, named = await _scanned(redis, scan, _RESERVATION, shards)
    suspicious: dict[int, dict[str, list[str]]] = {}
    for shard, ids in named.items():
        texts: list[Any] = await redis.mget([keys.reservation(shard, each) for each in ids])
        journal = await rebuild.reservations(connection, [each for each in ids if _is_uuid(each)])
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


async def _scanned(redis: Redis, scan: int, prefix: str, shards: int) -> tuple[int, dict[int, list[str]]]:
    """Names under keys that begin like `prefix` (of shard 0), by shard."""
    head, _, tail = prefix.partition("{0}")
    found: Any
    scan, found = await redis.scan(scan, match=f"{head}{{*}}{tail}*", count=SCANNED_AT_ONCE)
    named: dict[int, list[str]] = defaultdict(list)
    for key in found:
        number, _, name = key.decode(errors="replace").removeprefix(head + "{").partition("}" + tail)
        if number.isdecimal() and int(number) < shards:
            named[int(number)].append(name)
    return int(scan), named


def _alike(found: Reservation, its: Reservation) -> bool:
    """Open ones are compared with their accounts; of the others the journal has the same ending."""
    if found.status == "pending" and its.status == "pending":
        return found.account == its.account
    return (
        found.account, found.status, found.reserved, found.captured, found.charged, found.released,
        found.held, found.settled_at_ms, found.cancel_cause, found.ended_sequence, found.reserved_sequence,
    ) == (
        its.account, its.status, its.reserved, its.captured, its.charged, its.released,
        its.held, its.settled_at_ms, its.cancel_cause, its.ended_sequence, its.reserved_sequence,
    )  # fmt: skip


def _is_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False

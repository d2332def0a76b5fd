"""What must hold between the keys of a ledger at every moment, whoever wrote them.

`check_keys` reads everything that a Redis holds of every shard and raises `Broken` at the first thing that
does not fit. It believes nothing: what the accounts say is compared with their lots, with the open
reservations, with `due` and `holds`, and with what the entries of the stream prove (`proofs`). It must run
while nobody writes.
"""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import msgspec
from redis.asyncio import Redis

from app.ledger import keys
from app.ledger.credits import CREDITS_MAX
from app.ledger.entries import Entry
from app.ledger.replies import Account, Lot, Reservation
from tests.lua.proofs import OVERDRAFT, Line, check_entries, demand

LOTS_MAX, PARTS_MAX, EXTENSIONS_MAX = 64, 100, 100
LAST_PRIORITY = 1_000_001

_NAME = re.compile(rb"lastro:\{(\d+)\}:([a-z]+)(?::(.*))?", re.DOTALL)
_TYPES = {
    "meta": b"hash", "journal": b"stream", "account": b"string", "reservation": b"string", "holds": b"zset",
    "due": b"zset", "aside": b"zset", "lane": b"hash", "operation": b"string", "task": b"string",
    "refunded": b"string", "claim": b"string",
}  # fmt: skip
_EXPIRE = frozenset({"lane", "operation", "task", "refunded", "claim"})


class ShardKeys:
    """Everything of one shard, decoded. `expiring` are the names of keys that have a TTL."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.meta: dict[str, str] = {}
        self.lines: list[Line] = []
        self.last_id = "0-0"
        self.accounts: dict[str, Account] = {}
        self.reservations: dict[str, Reservation] = {}
        self.holds: dict[str, dict[str, int]] = {}
        self.due: dict[str, int] = {}
        self.aside: dict[str, int] = {}
        self.refunded: dict[str, int] = {}
        self.expiring: set[str] = set()


async def check_keys(redis: Redis) -> dict[int, ShardKeys]:
    """Check every shard of the ledger in `redis`; what was read is returned.

    Raises:
        Broken: Something does not fit.
    """
    shards = await read_keys(redis)
    for shard in shards.values():
        check_shard(shard)
    return shards


async def read_keys(redis: Redis) -> dict[int, ShardKeys]:
    """Everything under `lastro:{shard}:`."""
    names = sorted([key async for key in redis.scan_iter("lastro:{*", count=1000)])
    asked = redis.pipeline(transaction=False)
    for name in names:
        asked.type(name)
        asked.pttl(name)
    told = await asked.execute()
    types, ttls = told[::2], told[1::2]
    for name, type_ in zip(names, types, strict=True):
        _ask(asked, name, type_)
    values = await asked.execute()
    shards: dict[int, ShardKeys] = {}
    for key, type_, ttl, value in zip(names, types, ttls, values, strict=True):
        if type_ == b"none":  # its time was up
            continue
        named = _NAME.fullmatch(key)
        demand(named is not None, f"a key of no known kind: {key!r}")
        number, kind, rest = int(named[1]), named[2].decode(), (named[3] or b"").decode()
        demand(kind in _TYPES, f"a key of no known kind: {key!r}")
        demand(type_ == _TYPES[kind], f"{key!r} is not a {_TYPES[kind].decode()}")
        shard = shards.setdefault(number, ShardKeys(number))
        if ttl >= 0:
            shard.expiring.add(f"{kind}:{rest}")
        demand(ttl >= 0 or kind not in _EXPIRE, f"{key!r} has no TTL")
        _put(shard, kind, rest, value)
    for number, shard in shards.items():
        shard.last_id = await _last_id(redis, number)
    return shards


def _ask(pipeline: Any, key: bytes, type_: bytes) -> None:
    match type_:
        case b"hash":
            pipeline.hgetall(key)
        case b"stream":
            pipeline.xrange(key)
        case b"zset":
            pipeline.zrange(key, 0, -1, withscores=True)
        case _:
            pipeline.get(key)


def _put(shard: ShardKeys, kind: str, rest: str, value: Any) -> None:
    match kind:
        case "meta":
            shard.meta = {name.decode(): text.decode() for name, text in value.items()}
        case "journal":
            for name, fields in value:
                entry = msgspec.json.decode(fields[b"entry"], type=Entry)
                sequence = int(name.removesuffix(b"-0"))
                shard.lines.append(Line(sequence, fields[b"entry"], entry, fields.get(b"notes")))
        case "account":
            shard.accounts[rest] = msgspec.json.decode(value, type=Account)
        case "reservation":
            shard.reservations[rest] = msgspec.json.decode(value, type=Reservation)
        case "holds":
            shard.holds[rest] = _scores(value)
        case "due":
            shard.due = _scores(value)
        case "aside":
            shard.aside = _scores(value)
        case "refunded":
            shard.refunded[rest] = int(value)


def _scores(members: list[tuple[bytes, float]]) -> dict[str, int]:
    return {member.decode(): int(score) for member, score in members}


async def _last_id(redis: Redis, shard: int) -> str:
    key = keys.journal(shard)
    return (await redis.xinfo_stream(key))["last-generated-id"].decode() if await redis.exists(key) else "0-0"


def check_shard(shard: ShardKeys) -> None:
    """Everything that can be said of one shard."""
    _check_order(shard)
    for account in shard.accounts:
        _check_account(shard, account)
    _check_due(shard)
    for reservation in shard.reservations.values():
        _check_reservation(shard, reservation)
    if shard.lines and shard.lines[0].sequence == 1:
        check_entries(shard.number, shard.lines, shard.accounts, shard.reservations, shard.refunded)


def _check_order(shard: ShardKeys) -> None:
    """I7: sequences without gaps up to meta's, calls linked, times that never go back."""
    where = f"shard {shard.number}"
    sequence = int(shard.meta["sequence"])
    demand(
        shard.last_id == f"{sequence}-0", f"I7: {where}: the stream ends at {shard.last_id}, not {sequence}"
    )
    numbers = [line.sequence for line in shard.lines]
    demand(numbers == [*range(sequence - len(numbers) + 1, sequence + 1)], f"I7: {where} has a gap")
    first = numbers[0] if numbers else sequence + 1
    demand(first <= int(shard.meta["journaled"]) + 1, f"I8: {where}: trimmed before it was journaled")
    nonce = shard.lines[0].entry.previous_nonce if shard.lines and numbers[0] > 1 else "genesis"
    at_ms = 0
    seen: set[str | None] = set()
    for line in shard.lines:
        entry = line.entry
        if entry.previous_nonce is not None:
            demand(
                entry.previous_nonce == nonce,
                f"I7: {where}, entry {line.sequence}: not linked to the call before",
            )
            demand(entry.nonce not in seen, f"I7: {where}, entry {line.sequence}: a nonce used twice")
            nonce = entry.nonce
            seen.add(nonce)
        demand(
            entry.nonce == nonce,
            f"I7: {where}, entry {line.sequence}: a call that does not say what it follows",
        )
        demand(entry.at_ms >= at_ms, f"I6: {where}, entry {line.sequence}: time goes back")
        at_ms = entry.at_ms
    demand(shard.meta["link"] == nonce or not shard.lines, f"I7: {where}: the link is not the last call")
    demand(int(shard.meta["now_ms"]) >= at_ms, f"I6: {where}: meta is behind its entries")
    if len(numbers) == sequence:
        length = sum(len(line.text) + len(line.notes or b"") for line in shard.lines)
        demand(int(shard.meta["bytes"]) == length, f"I13: {where}: {shard.meta['bytes']} bytes, not {length}")


def _check_account(shard: ShardKeys, id_: str) -> None:
    """I2, I3, I12, I14 for an account, from its lots and from its open reservations."""
    account, where = shard.accounts[id_], f"account {id_}"
    lots = account.lots
    demand(f"account:{id_}" not in shard.expiring, f"{where} has a TTL")
    _check_debt(account, where)
    sums = (sum(lot.available for lot in lots), sum(lot.held for lot in lots))
    demand((account.available, account.held) == sums, f"I3: {where}: lots add up to {sums}")
    demand(account.available + account.held <= CREDITS_MAX, f"I12: {where}: above 2^53 - 1")
    rows = Counter(lot.bucket for lot in lots)
    demand(len(lots) - rows[OVERDRAFT] <= LOTS_MAX, f"I14: {where}: {len(lots)} lots")
    demand(
        len({(lot.bucket, lot.expires_at_ms) for lot in lots}) == len(lots), f"{where}: a lot stands twice"
    )
    demand(lots == sorted(lots, key=_spending_order), f"{where}: lots are not in spending order")
    for lot in lots:
        empty = not (lot.available or lot.held)
        demand(
            not empty or (rows[lot.bucket] == 1 and lot.expires_at_ms == 0), f"{where}: an empty lot too many"
        )
    priorities = {(lot.bucket, lot.priority) for lot in lots}
    demand(len(priorities) == len(rows), f"{where}: a bucket with two priorities")

    pending = {
        each.id: each
        for each in shard.reservations.values()
        if each.account == id_ and each.status == "pending"
    }
    deadlines = {each.id: each.expires_at_ms for each in pending.values()}
    demand(shard.holds.get(id_, {}) == deadlines, f"I5: {where}: holds are not its pending reservations")
    demand(
        account.open_holds == len(pending),
        f"I14: {where}: {account.open_holds} open holds, not {len(pending)}",
    )
    holding: Counter[tuple[str, int]] = Counter()
    for each in pending.values():
        for leg in each.legs:
            holding[leg.bucket, leg.expires_at_ms] += leg.held
    held = {(lot.bucket, lot.expires_at_ms): lot.held for lot in lots if lot.held}
    demand(held == dict(holding), f"I3: {where}: its reservations hold {dict(holding)}")


def _check_debt(account: Account, where: str) -> None:
    """I2: never below the floor, and what is owed is owed by an account that has nothing else."""
    owed = [lot for lot in account.lots if lot.bucket == OVERDRAFT]
    demand(account.available >= -account.overdraft_limit, f"I2: {where}: below its floor")
    demand(
        all(lot.available >= 0 and lot.held >= 0 for lot in account.lots if lot not in owed),
        f"I2: {where}: a lot below zero",
    )
    for lot in owed:
        shape = (lot.priority, lot.expires_at_ms, lot.held)
        demand(shape == (LAST_PRIORITY, 0, 0), f"I2: {where}: a debt like no other: {lot}")
        demand(lot.available < 0, f"I2: {where}: a debt of nothing")
        demand(account.available == lot.available, f"I2: {where}: owes, and has something available")
    if account.status == "closed":
        demand((account.available, account.held) == (0, 0), f"{where}: closed, and not empty")


def _spending_order(lot: Lot) -> tuple[int, float, int, str]:
    return lot.priority, lot.expires_at_ms or float("inf"), lot.since, lot.bucket


def _check_due(shard: ShardKeys) -> None:
    """I6: exactly what time will do is due: holds at their deadlines, lots at their soonest expiry."""
    expected = {
        f"reservation:{each.id}:{each.account}": each.expires_at_ms
        for each in shard.reservations.values()
        if each.status == "pending"
    }
    for id_, account in shard.accounts.items():
        expiries = [lot.expires_at_ms for lot in account.lots if lot.expires_at_ms and lot.available]
        demand(account.lapses_at_ms == min(expiries, default=0), f"I6: account {id_}: lapses_at_ms is wrong")
        if expiries:
            expected[f"account:{id_}"] = min(expiries)
    demand(
        shard.due == expected, f"I6: shard {shard.number}: due differs: {_difference(shard.due, expected)}"
    )


def _difference(found: Mapping[str, int], expected: Mapping[str, int]) -> str:
    return (
        f"too many {dict(found.items() - expected.items())}, missing {dict(expected.items() - found.items())}"
    )


def _check_reservation(shard: ShardKeys, each: Reservation) -> None:
    """I3 and I5 for a reservation: it adds up, and only what has ended is ever forgotten."""
    where = f"reservation {each.id}"
    demand(each.reserved == each.captured + each.released + each.held, f"I3: {where} does not add up")
    demand(sum(leg.held for leg in each.legs) == each.held, f"I3: {where}: legs")
    demand(
        each.extensions <= EXTENSIONS_MAX and len(each.parts) <= PARTS_MAX, f"I14: {where}: too many times"
    )
    demand(each.account in shard.accounts, f"{where}: its account is missing")
    pending, expiring = each.status == "pending", f"reservation:{each.id}" in shard.expiring
    demand(pending != expiring, f"I15: {where} is {each.status} and {'has a' if expiring else 'has no'} TTL")
    demand(
        pending == (each.ended_sequence is None),
        f"I5: {where} is {each.status} and ended {each.ended_sequence}",
    )
    demand(pending == (each.settled_at_ms is None), f"I5: {where} is {each.status} and settled")
    demand(pending or not each.held, f"I5: {where} has ended and holds {each.held}")

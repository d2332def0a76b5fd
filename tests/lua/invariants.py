"""What must hold between the keys of a ledger at every moment, whoever wrote them.

`check_keys` reads everything that a Redis holds of every shard and raises `Broken` at the first thing that
does not fit. It believes nothing: what the accounts say is compared with their lots, with the open
reservations, with `due` and `holds`, and with what the entries of the stream add up to. It must run while
nobody writes.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import NamedTuple

import msgspec
from redis.asyncio import Redis

from app.ledger.credits import CREDITS_MAX
from app.ledger.entries import Entry
from app.ledger.replies import Account, Lot, Reservation

LOTS_MAX = 64

_NAME = re.compile(rb"lastro:\{(\d+)\}:([a-z]+)(?::(.*))?", re.DOTALL)
_TYPES = {
    "meta": b"hash", "journal": b"stream", "account": b"string", "reservation": b"string", "holds": b"zset",
    "due": b"zset", "aside": b"zset", "lane": b"hash", "operation": b"string", "task": b"string",
}  # fmt: skip
_EXPIRE = frozenset({"lane", "operation", "task"})


class Broken(AssertionError):
    """A promise does not hold; the text says which and where."""


class Line(NamedTuple):
    """One entry of a stream, as text and read."""

    sequence: int
    text: bytes
    entry: Entry
    notes: bytes | None


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
        self.expiring: set[str] = set()


def demand(holds: bool, promise: str) -> None:
    if not holds:
        raise Broken(promise)


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
    shards: dict[int, ShardKeys] = {}
    for key in sorted([key async for key in redis.scan_iter("lastro:{*", count=1000)]):
        name = _NAME.fullmatch(key)
        demand(name is not None, f"a key of no known kind: {key!r}")
        number, kind, rest = int(name[1]), name[2].decode(), (name[3] or b"").decode()
        demand(kind in _TYPES, f"a key of no known kind: {key!r}")
        demand(await redis.type(key) == _TYPES[kind], f"{key!r} is not a {_TYPES[kind].decode()}")
        shard = shards.setdefault(number, ShardKeys(number))
        ttl = await redis.pttl(key)
        if ttl >= 0:
            shard.expiring.add(f"{kind}:{rest}")
        demand(ttl >= 0 or kind not in _EXPIRE, f"{key!r} has no TTL")
        await _read_key(redis, shard, key, kind, rest)
    return shards


async def _read_key(redis: Redis, shard: ShardKeys, key: bytes, kind: str, rest: str) -> None:
    match kind:
        case "meta":
            shard.meta = {name.decode(): value.decode() for name, value in (await redis.hgetall(key)).items()}
        case "journal":
            shard.last_id = (await redis.xinfo_stream(key))["last-generated-id"].decode()
            for name, fields in await redis.xrange(key):
                entry = msgspec.json.decode(fields[b"entry"], type=Entry)
                sequence = int(name.removesuffix(b"-0"))
                shard.lines.append(Line(sequence, fields[b"entry"], entry, fields.get(b"notes")))
        case "account":
            shard.accounts[rest] = msgspec.json.decode(await redis.get(key), type=Account)
        case "reservation":
            shard.reservations[rest] = msgspec.json.decode(await redis.get(key), type=Reservation)
        case "holds":
            shard.holds[rest] = await _scores(redis, key)
        case "due":
            shard.due = await _scores(redis, key)
        case "aside":
            shard.aside = await _scores(redis, key)


async def _scores(redis: Redis, key: bytes) -> dict[str, int]:
    return {member.decode(): int(score) for member, score in await redis.zrange(key, 0, -1, withscores=True)}


def check_shard(shard: ShardKeys) -> None:
    """Everything that can be said of one shard."""
    _check_order(shard)
    for account in shard.accounts:
        _check_account(shard, account)
    _check_due(shard)
    for reservation in shard.reservations.values():
        _check_reservation(shard, reservation)
    if shard.lines and shard.lines[0].sequence == 1:
        _check_journal(shard)


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
    demand(all(lot.available >= 0 and lot.held >= 0 for lot in lots), f"I2: {where}: a lot below zero")
    sums = (sum(lot.available for lot in lots), sum(lot.held for lot in lots))
    demand((account.available, account.held) == sums, f"I3: {where}: lots add up to {sums}")
    demand(account.available + account.held <= CREDITS_MAX, f"I12: {where}: above 2^53 - 1")
    demand(len(lots) <= LOTS_MAX, f"I14: {where}: {len(lots)} lots")
    demand(
        len({(lot.bucket, lot.expires_at_ms) for lot in lots}) == len(lots), f"{where}: a lot stands twice"
    )
    demand(lots == sorted(lots, key=_spending_order), f"{where}: lots are not in spending order")
    rows = Counter(lot.bucket for lot in lots)
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
    demand(each.account in shard.accounts, f"{where}: its account is missing")
    pending, expiring = each.status == "pending", f"reservation:{each.id}" in shard.expiring
    demand(pending != expiring, f"I15: {where} is {each.status} and {'has a' if expiring else 'has no'} TTL")
    demand(
        pending == (each.ended_sequence is None),
        f"I5: {where} is {each.status} and ended {each.ended_sequence}",
    )
    demand(pending == (each.settled_at_ms is None), f"I5: {where} is {each.status} and settled")
    demand(pending or not each.held, f"I5: {where} has ended and holds {each.held}")


def _check_journal(shard: ShardKeys) -> None:
    """I3 and I7 from the first entry on: each proves itself, together they prove the accounts."""
    lots: dict[str, dict[tuple[str, int], tuple[int, int]]] = defaultdict(lambda: defaultdict(lambda: (0, 0)))
    balances: dict[str, tuple[int, int, int]] = defaultdict(lambda: (0, 0, 0))
    endings: Counter[str] = Counter()
    moved: Counter[tuple[str, str]] = Counter()
    for line in shard.lines:
        entry, at = line.entry, f"entry {line.sequence}"
        version, available, held = balances[entry.account]
        for leg in entry.legs:
            was = lots[entry.account][leg.bucket, leg.expires_at_ms]
            now = (was[0] + leg.available, was[1] + leg.held)
            demand(min(now) >= 0, f"I2: {at}: a lot below zero")
            lots[entry.account][leg.bucket, leg.expires_at_ms] = now
        available += sum(leg.available for leg in entry.legs)
        held += sum(leg.held for leg in entry.legs)
        demand(entry.version == version + 1, f"I7: {at}: version {entry.version} follows {version}")
        demand((entry.available, entry.held) == (available, held), f"I3: {at}: legs and balance differ")
        balances[entry.account] = (entry.version, available, held)
        moved[entry.account, entry.kind] += entry.amount
        if entry.kind in {"confirmed", "cancelled", "expired"}:
            endings[entry.reservation or ""] += 1
    demand(not endings or max(endings.values()) == 1, f"I5: ended twice: {endings.most_common(1)}")
    found = {id_: (each.version, each.available, each.held) for id_, each in shard.accounts.items()}
    demand(
        found == balances,
        f"I3: shard {shard.number}: accounts {found} are not what the entries say {dict(balances)}",
    )
    for id_, account in shard.accounts.items():
        gone = sum(moved[id_, kind] for kind in ("deducted", "confirmed", "lapsed"))
        granted = account.available + account.held + gone
        demand(moved[id_, "granted"] == granted, f"I3: account {id_}: granted is not available + held + gone")
        stored = {(lot.bucket, lot.expires_at_ms): (lot.available, lot.held) for lot in account.lots}
        of_entries = {lot: sums for lot, sums in lots[id_].items() if any(sums)}
        demand(
            {lot: sums for lot, sums in stored.items() if any(sums)} == of_entries, f"I3: account {id_}: lots"
        )
    for each in shard.reservations.values():
        demand(
            endings[each.id] == (each.status != "pending"),
            f"I5: reservation {each.id}: {endings[each.id]} endings",
        )

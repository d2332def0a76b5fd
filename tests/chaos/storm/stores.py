"""Redis held against PostgreSQL, key by key: accounts with their lots, reservations, how far each shard is.

Only what the journal has named since the last time, or (`everything`) all that there is on both sides.
"""

import asyncio
from collections.abc import Iterable, Mapping
from itertools import islice

import asyncpg
import msgspec
from redis.asyncio import Redis

from app.ledger import keys
from app.ledger.replies import Account, Lot, Reservation
from app.ledger.shards import shard_of, shard_of_reservation
from tests.chaos.storm.history import History
from tests.chaos.storm.records import Findings
from tests.lua.invariants import check_keys
from tests.reference.proofs import Broken

_PAGE = 500
_TRIES_MAX = 100
_TRIES_BROKEN = 10
_SECONDS = 0.1

_account = msgspec.json.Decoder(Account).decode
_reservation = msgspec.json.Decoder(Reservation).decode


class Stores:
    """Both sides of a ledger to which only time writes any more."""

    def __init__(self, redis: Redis, database: asyncpg.Pool, history: History, findings: Findings) -> None:
        self._redis = redis
        self._database = database
        self._history = history
        self._findings = findings
        self._shards = len(history.cursors)

    async def compare(self, *, everything: bool = False) -> None:
        """At one moment at which both sides stand still and the history has all of it."""
        for _ in range(_TRIES_BROKEN if self._findings.count else _TRIES_MAX):
            await self._history.read_on(self._database)
            before = await self._standings()
            if [standing[:2] for standing in before] == [(at, at) for at in self._history.cursors]:
                found = await self._differences(everything)
                if await self._standings() == before:
                    for difference in found:
                        self._findings.add(difference)
                    self._history.touched.clear()
                    return
            await asyncio.sleep(_SECONDS)
        self._findings.add("Redis and the journal did not stand still together")

    async def _standings(self) -> list[tuple[int, int, str]]:
        asked = self._redis.pipeline(transaction=False)
        for shard in range(self._shards):
            asked.hmget(keys.meta(shard), "sequence", "journaled", "fence")
        return [(int(at), int(journaled), fence.decode()) for at, journaled, fence in await asked.execute()]

    async def _differences(self, everything: bool) -> list[str]:
        touched = list(self._history.accounts) if everything else self._history.touched
        accounts = [name for name in touched if name in self._history.accounts]
        holds = {name: of for name, of in self._history.touched.items() if of}
        if everything:
            holds = {row.reservation: row.account for row in self._history.rows.values() if row.reservation}
        found = [text async for text in self._shards_differ()]
        for page in _pages(accounts):
            found += await self._accounts_differ(page)
        for page in _pages(holds):
            found += await self._reservations_differ(page)
        if everything:
            found += await self._strangers(set(accounts), set(holds))
            found += await self._misfits()
        return found

    async def _shards_differ(self):
        for shard in range(self._shards):
            meta = await self._redis.hgetall(keys.meta(shard))
            row = await self._database.fetchrow("SELECT * FROM shards WHERE shard = $1", shard)
            in_redis = (
                int(meta[b"incarnation"]), meta[b"link"].decode(), int(meta[b"bytes"]),
                int(meta[b"journaled_bytes"]), meta[b"fence"].decode(),
            )  # fmt: skip
            in_postgres = (row["incarnation"], row["link"], row["bytes"], row["bytes"], row["fence"] or "")
            if in_redis != in_postgres:
                yield f"shard {shard}: Redis has {in_redis}, PostgreSQL {in_postgres}"

    async def _accounts_differ(self, names: list[str]) -> list[str]:
        texts = await self._texts(keys.account(shard_of(name, self._shards), name) for name in names)
        in_redis = {
            name: None if text is None else _facts(_account(text))
            for name, text in zip(names, texts, strict=True)
        }
        rows = await self._database.fetch(
            "SELECT account, version, available, held FROM accounts WHERE account = ANY($1)", names
        )
        lots = await self._database.fetch(
            """
            SELECT account, bucket, priority, expires_at_ms, available, held, since FROM lots
            WHERE account = ANY($1)
            ORDER BY account, priority, expires_at_ms = 0, expires_at_ms, since, bucket COLLATE "C"
            """,
            names,
        )
        holds = dict(
            await self._database.fetch(
                "SELECT account, count(*) FROM reservations WHERE account = ANY($1) AND status = 'pending' "
                "GROUP BY account",
                names,
            )
        )
        of = {name: [Lot(*tuple(lot)[1:]) for lot in lots if lot["account"] == name] for name in names}
        in_postgres = {
            row["account"]: (*tuple(row)[1:], holds.get(row["account"], 0), of[row["account"]])
            for row in rows
        }
        return _difference("account", in_redis, in_postgres)

    async def _reservations_differ(self, names: list[str]) -> list[str]:
        texts = await self._texts(
            keys.reservation(shard_of_reservation(name, self._shards) or 0, name) for name in names
        )
        in_redis = {
            name: None if text is None else _hold(_reservation(text))
            for name, text in zip(names, texts, strict=True)
        }
        rows = await self._database.fetch(
            "SELECT * FROM reservations WHERE id = ANY($1::text[]::uuid[])", names
        )
        in_postgres = {
            str(row["id"]): (
                row["account"], row["status"], row["reserved"], row["captured"], row["charged"],
                row["released"], row["held"], row["expires_at"].timestamp() * 1000, row["cancel_cause"],
                row["task"], row["reserved_seq"], row["bound_seq"], row["ended_seq"],
            )
            for row in rows
        }  # fmt: skip
        return _difference("reservation", in_redis, in_postgres)

    async def _texts(self, names: Iterable[str]) -> list[bytes | None]:
        """Also where a cluster has them on many servers."""
        asked = self._redis.pipeline(transaction=False)
        for name in names:
            asked.get(name)
        found: list[bytes | None] = await asked.execute()
        return found

    async def _strangers(self, accounts: set[str], holds: set[str]) -> list[str]:
        """Accounts and reservations that Redis has and the journal has not."""
        found = []
        async for key in self._redis.scan_iter(match="lastro:*", count=2000):
            _, _, rest = key.decode().partition("}:")
            kind, _, name = rest.partition(":")
            if (kind == "account" and name not in accounts) or (kind == "reservation" and name not in holds):
                found.append(f"Redis has {kind} {name}, and the journal does not")
            if kind == "aside":
                found.append("something that was due was kept aside")
        return found

    async def _misfits(self) -> list[str]:
        """What does not fit among Redis' own keys: holds, due, what expires, what entries add up to."""
        try:
            await check_keys(self._redis)
        except Broken as error:
            return [str(error)]
        return []


def _facts(each: Account) -> tuple[object, ...]:
    return each.version, each.available, each.held, each.open_holds, each.lots


def _hold(each: Reservation) -> tuple[object, ...]:
    return (
        each.account, each.status, each.reserved, each.captured, each.charged,
        each.released, each.held, each.expires_at_ms, each.cancel_cause,
        each.task, each.reserved_sequence, each.bound_sequence, each.ended_sequence,
    )  # fmt: skip


def _difference(what: str, in_redis: Mapping[str, object], in_postgres: Mapping[str, object]) -> list[str]:
    return [
        f"{what} {name}: Redis has {value}, PostgreSQL {in_postgres.get(name)}"
        for name, value in in_redis.items()
        if value != in_postgres.get(name)
    ]


def _pages(names: Iterable[str]) -> Iterable[list[str]]:
    rest = iter(names)
    while page := list(islice(rest, _PAGE)):
        yield page

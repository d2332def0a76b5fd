"""The journal as PostgreSQL has it, read once, folded and proved row by row.

Proved: numbers without gaps, the hash chain, calls that are linked, columns that say what the entry says,
versions, legs and balances of each account, no lot below zero, one ending of each reservation, no key and no
mark twice, and what was granted against what is there and what is gone (I3).
"""

from collections import Counter, defaultdict
from typing import NamedTuple, TypeVar
from uuid import UUID

import asyncpg
import msgspec

from app.ledger.entries import Entry, chained, genesis
from tests.chaos.storm.records import Findings

_ENDINGS = frozenset({"confirmed", "cancelled", "expired"})
_SPENT = frozenset({"deducted", "confirmed", "lapsed"})
_OF_RESERVATION = frozenset({"confirmed", "cancelled", "bound", "extended"})
_COLUMNS = ("incarnation", "kind", "account", "version", "amount", "available", "held", "task", "model", "by")

_Key = TypeVar("_Key", str, tuple[str, str])

_entry = msgspec.json.Decoder(Entry).decode


class Row(NamedTuple):
    """What is kept of a row; `name` is its transaction id."""

    name: str
    kind: str
    account: str
    version: int
    amount: int
    available: int
    held: int
    key: str
    reservation: str
    mark: str
    cause: str


class _Chain:
    """Where a shard's journal has come to."""

    def __init__(self, ledger: bytes, shard: int) -> None:
        self.sequence = 0
        self.head = genesis(ledger, shard)
        self.link = "genesis"
        self.at_ms = 0


class _Account:
    """What an account's rows add up to. `balances`: (available, held) of each version, from 1 on."""

    def __init__(self) -> None:
        self.balances: list[tuple[int, int]] = [(0, 0)]
        self.lots: dict[tuple[str, int], tuple[int, int]] = defaultdict(lambda: (0, 0))
        self.moved: Counter[str] = Counter()


class History:
    """All rows so far, by whatever they are asked for."""

    def __init__(self, ledger: UUID, shards: int, findings: Findings) -> None:
        self._ledger = ledger
        self._findings = findings
        self._chains = [_Chain(ledger.bytes, shard) for shard in range(shards)]
        self.accounts: dict[str, _Account] = defaultdict(_Account)
        self.rows: dict[str, Row] = {}
        self.keys: dict[tuple[str, str], Row] = {}
        self.marks: dict[str, Row] = {}
        self.endings: dict[str, Row] = {}
        self.touched: dict[str, str] = {}
        """Accounts and reservations (with their account) that rows named since this was last emptied."""

    @classmethod
    async def of(cls, database: asyncpg.Pool, findings: Findings) -> "History":
        """An empty one, of the ledger in the database."""
        ledger, shards = await database.fetchrow("SELECT id, shards FROM ledger")
        return cls(ledger, shards, findings)

    @property
    def cursors(self) -> list[int]:
        """The last sequence of each shard."""
        return [chain.sequence for chain in self._chains]

    async def read_on(self, database: asyncpg.Pool) -> None:
        """Take in what was added since."""
        for shard, chain in enumerate(self._chains):
            rows = await database.fetch(
                "SELECT * FROM journal WHERE shard = $1 AND seq > $2 ORDER BY seq", shard, chain.sequence
            )
            for row in rows:
                self._prove(chain, shard, row)
            standing = await database.fetchrow(
                "SELECT cursor, link, head, fence FROM shards WHERE shard = $1", shard
            )
            if tuple(standing) != (chain.sequence, chain.link, chain.head, None):
                self._findings.add(
                    f"shard {shard} says {tuple(standing)}, its rows say "
                    f"{(chain.sequence, chain.link, chain.head)}"
                )

    def balance(self, account: str, version: int) -> tuple[int, int] | None:
        """(available, held) as of that version; `None` where there is no such version."""
        balances = self.accounts[account].balances if account in self.accounts else []
        return balances[version] if 0 < version < len(balances) else None

    def _prove(self, chain: _Chain, shard: int, row: asyncpg.Record) -> None:
        sequence, at = row["seq"], f"row {row['seq']} of shard {shard}"
        entry = _entry(row["entry"])
        if sequence != chain.sequence + 1:
            self._findings.add(f"a gap in the journal: {at} follows {chain.sequence}")
        chain.sequence = sequence
        chain.head = chained(chain.head, shard, sequence, row["entry"].encode())
        if chain.head != row["hash"]:
            self._findings.add(f"{at} has another hash than its chain")
            chain.head = row["hash"]
        self._prove_link(chain, entry, at)
        columns = [row[name] for name in _COLUMNS] + [row["operation_key"], row["reservation"]]
        said = [getattr(entry, name) for name in _COLUMNS]
        said += [entry.key, None if entry.reservation is None else UUID(entry.reservation)]
        if columns != said:
            self._findings.add(f"{at} has columns that its entry does not say: {columns} {said}")
        self._fold(entry, at)
        self._index(f"{shard}-{entry.incarnation}-{sequence}", entry)

    def _prove_link(self, chain: _Chain, entry: Entry, at: str) -> None:
        if entry.previous_nonce is not None:
            if entry.previous_nonce != chain.link:
                self._findings.add(f"{at} follows call {entry.previous_nonce}, not {chain.link}")
            chain.link = entry.nonce
        elif entry.nonce != chain.link:
            self._findings.add(f"{at} does not say which call it follows")
        if entry.at_ms < chain.at_ms:
            self._findings.add(f"{at}: time goes back by {chain.at_ms - entry.at_ms} ms")
        chain.at_ms = entry.at_ms

    def _fold(self, entry: Entry, at: str) -> None:
        account = self.accounts[entry.account]
        available, held = account.balances[-1]
        for leg in entry.legs:
            lot = account.lots[leg.bucket, leg.expires_at_ms]
            after = (lot[0] + leg.available, lot[1] + leg.held)
            if min(after) < 0:
                self._findings.add(f"{at}: a lot of {entry.account} below zero: {after}")
            account.lots[leg.bucket, leg.expires_at_ms] = after
        available += sum(leg.available for leg in entry.legs)
        held += sum(leg.held for leg in entry.legs)
        if entry.version != len(account.balances) or (entry.available, entry.held) != (available, held):
            self._findings.add(
                f"{at}: version {entry.version} of {entry.account} says {entry.available} and {entry.held}, "
                f"and {len(account.balances)} with {available} and {held} would follow"
            )
        account.balances.append((entry.available, entry.held))
        account.moved[entry.kind] += entry.amount
        gone = sum(account.moved[kind] for kind in _SPENT)
        if account.moved["granted"] != available + held + gone:
            self._findings.add(
                f"I3, {at}: {entry.account} was granted {account.moved['granted']}, "
                f"has {available} + {held}, and {gone} are gone"
            )

    def _index(self, name: str, entry: Entry) -> None:
        row = Row(
            name,
            entry.kind,
            entry.account,
            entry.version,
            entry.amount,
            entry.available,
            entry.held,
            entry.key or "",
            entry.reservation or "",
            entry.model or "",
            entry.cause or "",
        )
        self.rows[name] = row
        self.touched[entry.account] = ""
        if row.reservation:
            self.touched[row.reservation] = entry.account
        if row.key:
            subject = row.reservation if row.kind in _OF_RESERVATION else row.account
            self._once(self.keys, (subject, row.key), row, f"key {row.key} of {subject}")
        if row.mark:
            self._once(self.marks, row.mark, row, f"the request for model {row.mark}, sent once,")
        if row.kind in _ENDINGS:
            self._once(self.endings, row.reservation, row, f"the end of reservation {row.reservation}")

    def _once(self, index: dict[_Key, Row], name: _Key, row: Row, what: str) -> None:
        if name in index:
            self._findings.double(f"{what} is in the journal twice: {index[name]} and {row}")
        index[name] = row

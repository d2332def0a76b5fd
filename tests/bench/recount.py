"""Counts again what a ledger holds, from its streams up. What the accounts say is compared, not believed."""

import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
from redis import Redis

from app.ledger import keys
from app.ledger.entries import Leg
from tests.bench.bed import SHARDS

_PAGE = 5_000
_QUIET_SECONDS = 0.25


class Seen(msgspec.Struct, frozen=True):
    """What is compared of an entry."""

    kind: str
    account: str
    version: int
    amount: int
    available: int
    held: int
    legs: list[Leg]
    reservation: str | None = None


class _Sums(msgspec.Struct, frozen=True):
    version: int
    available: int
    held: int


class Place(NamedTuple):
    """Where an entry stands."""

    shard: int
    sequence: int


_entry = msgspec.json.Decoder(Seen).decode
_account = msgspec.json.Decoder(_Sums).decode


class Recount:
    """Follows the streams of one ledger. For moments in which nobody writes."""

    def __init__(self, url: str) -> None:
        self._redis = Redis.from_url(url, protocol=2)
        self._at = [0] * SHARDS
        self._versions: Counter[str] = Counter()
        self._available: Counter[str] = Counter()
        self._held: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()

    def close(self) -> None:
        self._redis.close()

    def read_on(self) -> dict[Place, Seen]:
        """The entries since the last time, each added to what its account must hold.

        First waits for those that are still under way, because their clients have gone.
        """
        self._settle()
        found: dict[Place, Seen] = {}
        for shard in range(SHARDS):
            for sequence, entry in self._entries(shard):
                assert sequence == self._at[shard] + 1, f"shard {shard} has a gap before {sequence}"
                self._at[shard] = sequence
                self._versions[entry.account] += 1
                self._available[entry.account] += sum(leg.available for leg in entry.legs)
                self._held[entry.account] += sum(leg.held for leg in entry.legs)
                self.kinds[entry.kind] += 1
                found[Place(shard, sequence)] = entry
        return found

    @property
    def sums(self) -> dict[str, tuple[int, int, int]]:
        """Version, available and held of each account, by its entries."""
        return {name: (n, self._available[name], self._held[name]) for name, n in self._versions.items()}

    def mismatches(self) -> int:
        """How many accounts hold something else than their entries add up to."""
        by_shard: dict[int, list[str]] = defaultdict(list)
        for shard in range(SHARDS):
            prefix = keys.account(shard, "")
            for key in self._redis.scan_iter(f"{prefix}*", count=5_000):
                by_shard[shard].append(key.decode().removeprefix(prefix))
        sums = self.sums
        wrong = len(sums.keys() ^ {account for found in by_shard.values() for account in found})
        for shard, accounts in by_shard.items():
            texts: Any = self._redis.mget([keys.account(shard, account) for account in accounts])
            for account, text in zip(accounts, texts, strict=True):
                holds = _account(text)
                wrong += sums.get(account) != (holds.version, holds.available, holds.held)
        return wrong

    def _settle(self) -> None:
        before = -1
        while (length := self._length()) != before:
            before = length
            time.sleep(_QUIET_SECONDS)

    def _length(self) -> int:
        with self._redis.pipeline(transaction=False) as looks:
            for shard in range(SHARDS):
                looks.xlen(keys.journal(shard))
            return int(sum(looks.execute()))

    def _entries(self, shard: int) -> Iterator[tuple[int, Seen]]:
        while True:
            page: Any = self._redis.xrange(keys.journal(shard), f"({self._at[shard]}-0", count=_PAGE)
            for name, fields in page:
                yield int(name.removesuffix(b"-0")), _entry(fields[b"entry"])
            if len(page) < _PAGE:
                return

"""What a ledger weighs in Redis: the bytes of its keys by what they hold, as Redis itself counts them."""

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from redis import Redis

from app.ledger import keys

_AT_ONCE = 5_000

OF_RESERVATION = ("reservation", "holds", "due")
"""A reservation stands in three places: by itself, among those of its account, and by its deadline."""


class Weights(NamedTuple):
    """Bytes and numbers of keys, by the word that says what they hold (`app.ledger.keys`)."""

    bytes: Mapping[str, int]
    keys: Mapping[str, int]

    @property
    def account(self) -> float:
        """Bytes of one."""
        return self.bytes["account"] / self.keys["account"]

    @property
    def reservation(self) -> float:
        """Bytes of an open one, of those that nothing else stands beside."""
        return sum(self.bytes[kind] for kind in OF_RESERVATION) / self.keys["reservation"]

    @property
    def keyed_operation(self) -> float:
        """Bytes by which an operation with a key costs more than one without."""
        return self.bytes["operation"] / self.keys["operation"]


def weigh(url: str) -> Weights:
    """All keys of the ledger, one by one."""
    found: Counter[str] = Counter()
    numbers: Counter[str] = Counter()
    names: list[bytes] = []
    with Redis.from_url(url, protocol=2) as redis:
        for name in redis.scan_iter(keys.SCAN_ALL, count=_AT_ONCE):
            names.append(name)
            if len(names) == _AT_ONCE:
                _add(redis, names, found, numbers)
                names = []
        _add(redis, names, found, numbers)
    return Weights(found, numbers)


def _add(redis: Redis, names: list[bytes], found: Counter[str], numbers: Counter[str]) -> None:
    with redis.pipeline(transaction=False) as asked:
        for name in names:
            asked.memory_usage(name, samples=0)
        for name, size in zip(names, asked.execute(), strict=True):
            _, kind = keys.kind_of(name) or (-1, "ledger")
            found[kind] += size or 0  # it may have expired meanwhile
            numbers[kind] += 1

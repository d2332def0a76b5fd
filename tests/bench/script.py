"""The script's own limit: calls that were encoded beforehand, so many in flight that the server never waits.

What feeds it is a blocking socket and no engine. It is the same script, over the same accounts and shards,
with 64 operations a call: from there on larger calls gain nothing.
"""

import collections
import random
import secrets
import socket
import time
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

import hiredis
import msgspec

from app.ledger import keys, scripts
from app.ledger.backing import Terms
from app.ledger.calls import Call
from app.ledger.operations import Confirm, Deduct, Operation, Reserve
from app.ledger.shards import new_reservation_id, shard_of
from tests.bench.bed import ACCOUNTS
from tests.bench.engine import BY, MODEL

OPERATIONS = 64
CALLS_IN_FLIGHT = 4
_CALL_MS = 3_600_000
_PIECE = 1 << 18


class Feed:
    """A lane of its own to one Valkey. One measurement at a time."""

    def __init__(self, url: str, terms: Terms) -> None:
        where = urlsplit(url)
        self._terms = terms
        self._script = scripts.load("apply")
        self._lane = keys.lane(0, secrets.token_hex(8))
        self._number = 0
        self._random = random.Random(11)
        self._replies = hiredis.Reader()
        self.deducted = self.paired = 0
        self._socket = socket.create_connection((str(where.hostname), int(where.port or 0)))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for words in (["AUTH", str(where.password)], ["SCRIPT", "LOAD", self._script.text]):
            self._socket.sendall(_pack(words))
            self._next()

    def close(self) -> None:
        self._socket.close()

    def deducts(self, seconds: float) -> float:
        """Deducts a second."""
        calls = self._encoded(self._deduct_calls(int(seconds * 2000)))
        answered, taken = self._feed(calls, seconds)
        self.deducted += OPERATIONS * answered
        return OPERATIONS * answered / taken

    def pairs(self, seconds: float) -> float:
        """Pairs of reserve and confirm a second: each call confirms what the one before it reserved."""
        calls = self._encoded(self._pair_calls(int(seconds * 1200)))
        answered, taken = self._feed(calls, seconds)
        confirmed = OPERATIONS // 2 * (answered - 1)  # the first call only reserves
        self.paired += confirmed
        return confirmed / taken

    def _feed(self, calls: Sequence[bytes], seconds: float) -> tuple[int, float]:
        """How many calls were answered until they or the seconds were over, and how long that took."""
        begun = time.perf_counter()
        for call in calls[:CALLS_IN_FLIGHT]:
            self._socket.sendall(call)
        sent = CALLS_IN_FLIGHT
        replies: list[object] = []
        while len(replies) < sent:
            replies.append(self._next())
            if sent < len(calls) and time.perf_counter() - begun < seconds:
                self._socket.sendall(calls[sent])
                sent += 1
        taken = time.perf_counter() - begun
        for reply in replies:
            assert isinstance(reply, bytes)
            assert reply.startswith(b'["ok"'), reply
            assert b'["no",' not in reply, reply
        return len(replies), taken

    def _next(self) -> object:
        while (reply := self._replies.gets()) is False:
            self._replies.feed(self._socket.recv(_PIECE))
        if isinstance(reply, Exception):
            raise reply
        return reply

    def _encoded(self, calls: Iterator[list[Operation]]) -> list[bytes]:
        return [self._call(operations) for operations in calls]

    def _call(self, operations: list[Operation]) -> bytes:
        self._number += 1
        shards = sorted({operation.shard for operation in operations})
        call = Call(
            self._terms.ledger,
            self._terms.server,
            secrets.token_urlsafe(12),
            self._number,
            _now_ms() + _CALL_MS,
            [(shard, self._terms.incarnations[shard]) for shard in shards],
            1_000_000,
            268_435_456,
            operations,
        )
        metas = [keys.meta(shard) for shard in shards]
        words = ["EVALSHA", self._script.sha, str(len(metas) + 1), self._lane, *metas]
        return _pack([*words, msgspec.json.encode(call)])

    def _deduct_calls(self, count: int) -> Iterator[list[Operation]]:
        for _ in range(count):
            yield [
                Deduct(shard=self._shard(account), account=account, amount=1, model=MODEL, by=BY)
                for account in self._random.choices(ACCOUNTS, k=OPERATIONS)
            ]

    def _pair_calls(self, count: int) -> Iterator[list[Operation]]:
        half = OPERATIONS // 2
        open_: collections.deque[Reserve] = collections.deque()
        for _ in range(count):
            made = []
            for account in self._random.choices(ACCOUNTS, k=half if open_ else OPERATIONS):
                shard = self._shard(account)
                made.append(
                    Reserve(
                        shard=shard, account=account, amount=2, model=MODEL, by=BY,
                        reservation=new_reservation_id(shard, _now_ms()),
                    )
                )  # fmt: skip
            ended = [open_.popleft() for _ in range(half if open_ else 0)]
            open_.extend(made)
            yield [*made, *(Confirm(shard=each.shard, reservation=each.reservation, by=BY) for each in ended)]

    def _shard(self, account: str) -> int:
        return shard_of(account, self._terms.shards)


def _pack(words: Sequence[str | bytes]) -> bytes:
    packed: bytes = hiredis.pack_command(tuple(words))  # type: ignore[arg-type]  # it takes any number
    return packed


def _now_ms() -> int:
    return int(time.time() * 1000)

"""Our own load for HTTP: keep-alive connections, one request under way on each, every answer counted.

When the time is over no request is begun, and those under way are waited for. So what was answered is exactly
what was asked, and what the ledger has afterwards can be compared with it one by one. An answer that does not
come within 10 s is lost, and counted as that.
"""

import asyncio
import itertools
import re
import time
from array import array
from collections.abc import Iterable, Iterator
from typing import cast

from tests.bench.figures import Loaded, loaded

_PATIENCE_SECONDS = 10.0
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_HEAD_END = b"\r\n\r\n"
_GOOD = (b"HTTP/1.1 200 ", b"HTTP/1.1 201 ")


class Tally:
    """What all clients of a run have seen. `answers`: the bodies of good ones, where they are to be kept."""

    def __init__(self, ends: float, *, keep: bool) -> None:
        self.ends = ends
        self.times = array("d")
        self.refused = 0
        self.answers: list[bytes] | None = [] if keep else None


class Client(asyncio.Protocol):
    """One connection. `over` is done when nothing is under way on it and nothing will be."""

    def __init__(self, requests: Iterator[bytes], tally: Tally) -> None:
        self._requests = requests
        self._tally = tally
        self._received = bytearray()
        self._began = 0.0
        self._waits = False
        self._transport: asyncio.Transport
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one by its methods only
        self._ask()

    def data_received(self, data: bytes) -> None:
        received = self._received
        received += data
        head = received.find(_HEAD_END)
        if head < 0:
            return
        length = _LENGTH.search(received, 0, head + 2)
        assert length is not None, "an answer without its length"
        body = head + len(_HEAD_END)
        end = body + int(length[1])
        if len(received) < end:
            return
        assert len(received) == end, "an answer to nothing"
        self._waits = False
        if received.startswith(_GOOD):
            self._tally.times.append(time.perf_counter() - self._began)
            if self._tally.answers is not None:
                self._tally.answers.append(bytes(received[body:]))
        else:
            self._tally.refused += 1
        received.clear()
        self._ask()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.over.done():
            self.over.set_result(None)

    @property
    def lost(self) -> bool:
        """Whether an answer never came."""
        return self._waits

    def end(self) -> None:
        self._transport.close()

    def _ask(self) -> None:
        self._began = time.perf_counter()
        if self._began >= self._tally.ends:
            if not self.over.done():
                self.over.set_result(None)
            return
        self._waits = True
        self._transport.write(next(self._requests))


def post(path: str, token: str, body: bytes) -> bytes:
    """A request as it travels."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def generate(
    port: int, requests: Iterable[bytes], clients: int, seconds: float, *, keep: bool = False
) -> tuple[Loaded, list[bytes]]:
    """Load a server on this machine with these requests, over and over unless they never end by themselves.

    With `keep` the bodies of all good answers come back too.
    """
    loop = asyncio.get_running_loop()
    in_order = requests if isinstance(requests, Iterator) else itertools.cycle(requests)
    begun = time.perf_counter()
    tally = Tally(begun + seconds, keep=keep)
    made = [
        (await loop.create_connection(lambda: Client(in_order, tally), "127.0.0.1", port))[1]
        for _ in range(clients)
    ]
    await asyncio.wait([each.over for each in made], timeout=seconds + _PATIENCE_SECONDS)
    lost = sum(each.lost for each in made)
    for each in made:
        each.end()
    return loaded(tally.times, tally.refused + lost, time.perf_counter() - begun), tally.answers or []

"""Receivers of events as one meets them: good, broken, slow and malicious. Real servers on this machine."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import msgspec
from standardwebhooks import Webhook

from tests.listening import listening


class Got(NamedTuple):
    """A request as it came."""

    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def event(self) -> dict:
        return msgspec.json.decode(self.body)


Behave = Callable[[asyncio.StreamWriter], Awaitable[None]]


def answers(status: int, *headers: str, body: bytes = b"") -> Behave:
    """With a status, headers and a body."""

    async def behave(writer: asyncio.StreamWriter) -> None:
        lines = [f"HTTP/1.1 {status} So", f"content-length: {len(body)}", *headers, "", ""]
        writer.write("\r\n".join(lines).encode() + body)

    return behave


def says(raw: bytes) -> Behave:
    """These bytes, whatever they are, and closes."""

    async def behave(writer: asyncio.StreamWriter) -> None:
        writer.write(raw)

    return behave


async def hangs(writer: asyncio.StreamWriter) -> None:
    """Takes the request, and never answers."""
    await asyncio.Event().wait()


async def never_ends(writer: asyncio.StreamWriter) -> None:
    """200, and a body without an end."""
    writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
        await writer.drain()


async def trickles(writer: asyncio.StreamWriter) -> None:
    """Heads of answers that are none yet, one after the other, without an end."""
    while True:
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.01)


class Receiver:
    """Remembers what came, and behaves as it is told to."""

    def __init__(self) -> None:
        self.got: list[Got] = []
        self.behave: Behave = answers(200)
        self.open = 0
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, one request."""
        self.open += 1
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {
                name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:-2])
            }
            body = await reader.readexactly(int(headers["content-length"]))
            self.got.append(Got(headers, body))
            await self.behave(writer)
            await writer.drain()
        finally:
            self.open -= 1

    def events(self) -> list[str]:
        """The types of what came, in order."""
        return [each.event["type"] for each in self.got]


@asynccontextmanager
async def receiving(port: int = 0, tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    """A receiver that listens as long as the block lasts."""
    receiver = Receiver()
    async with listening(receiver.serve, port, tls) as receiver.port:
        yield receiver


def is_signed(got: Got, secret: str) -> bool:
    """Whether the signature is what the public library makes of it, at the time that it names."""
    at = datetime.fromtimestamp(int(got.headers["webhook-timestamp"]), UTC)
    return got.headers["webhook-signature"] == Webhook(secret).sign(got.id, at, got.body.decode())


class HandClock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 22, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def move(self, **by: float) -> None:
        """Move on."""
        self.now += timedelta(**by)

"""How many times an answer is handed to the kernel, over real connections."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from app.http.protocol import BoundedProtocol
from tests.listening import serving

SENT: list[list[bytes]] = []
OPEN: list[asyncio.Transport] = []


class Counted:
    """A transport that notes what it is given at once."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        SENT.append([data])
        self._transport.write(data)

    def writelines(self, pieces) -> None:
        SENT.append(list(pieces))
        self._transport.writelines(pieces)


class CountedProtocol(BoundedProtocol):
    """Notes what is sent, and over which connection."""

    def connection_made(self, transport) -> None:
        OPEN[:] = [transport]
        super().connection_made(Counted(transport))


@asynccontextmanager
async def asked(application: Callable, *requests: bytes) -> AsyncIterator[asyncio.StreamReader]:
    """What comes back from an application to which requests were written together."""
    SENT.clear()
    async with serving(application, http=CountedProtocol) as port, asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"".join(requests))
        yield reader
        writer.close()
        await writer.wait_closed()


def request(path: str = "/", *, close: bool = True, method: str = "GET") -> bytes:
    return b"%b %b HTTP/1.1\r\nhost: x\r\n%b\r\n" % (
        method.encode(),
        path.encode(),
        b"connection: close\r\n" if close else b"",
    )


def head(length: int, status: int = 200) -> dict[str, Any]:
    size = [(b"content-length", str(length).encode())]
    return {"type": "http.response.start", "status": status, "headers": size}


async def whole(scope, receive, send) -> None:
    """Answers at once, as all do that are not long."""
    await send(head(5))
    await send({"type": "http.response.body", "body": b"whole"})


async def test_an_answer_is_sent_in_one_go():
    async with asked(whole, request()) as reader:
        assert (await reader.read()).endswith(b"\r\n\r\nwhole")
    assert [len(pieces) for pieces in SENT] == [2]


async def test_so_is_each_of_those_that_were_asked_for_together():
    async with asked(whole, request(close=False), request()) as reader:
        assert (await reader.read()).count(b"\r\n\r\nwhole") == 2
    assert [len(pieces) for pieces in SENT] == [2, 2]


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
async def test_a_head_without_a_body_is_sent(method, status):
    async def bodiless(scope, receive, send) -> None:
        await send(head(0, status))
        await send({"type": "http.response.body", "body": b""})

    async with asked(bodiless, request(method=method)) as reader:
        assert (await reader.read()).startswith(b"HTTP/1.1 %d" % status)


async def test_a_head_does_not_wait_for_a_body_that_takes_its_time():
    """A browser that listens to events is told that it may before there are any."""
    goes_on = asyncio.Event()

    async def slow(scope, receive, send) -> None:
        await send(head(4))
        await goes_on.wait()
        for piece in (b"sl", b"ow"):
            await send({"type": "http.response.body", "body": piece, "more_body": piece == b"sl"})

    async with asked(slow, request()) as reader:
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        goes_on.set()
        assert await reader.read() == b"slow"
    assert [len(pieces) for pieces in SENT] == [1, 2]


async def test_a_piece_does_not_wait_for_the_next_one():
    goes_on = asyncio.Event()

    async def in_pieces(scope, receive, send) -> None:
        await send(head(6))
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await send({"type": "http.response.body", "body": b"tw", "more_body": True})
        await goes_on.wait()
        await send({"type": "http.response.body", "body": b"o"})

    async with asked(in_pieces, request()) as reader:
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(5) == b"onetw"
        goes_on.set()
        assert await reader.read() == b"o"


async def test_what_is_held_back_is_sent_before_the_end():
    """Uvicorn ends a connection right after what it says of a request that is none."""
    async with asked(whole, b"this is not HTTP\r\n\r\n") as reader:
        answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 400")
    assert b'"code":"invalid_request"' in answer


async def test_nothing_is_sent_over_a_connection_that_ended_meanwhile(caplog):
    over = asyncio.Event()

    async def cut_off(scope, receive, send) -> None:
        await send(head(1))
        OPEN[0].abort()
        await asyncio.sleep(0.05)
        await send({"type": "http.response.body", "body": b"x"})
        over.set()

    async with asked(cut_off, request(close=False)) as reader:
        assert await reader.read() == b""
        await over.wait()
    assert SENT == []
    assert not [each for each in caplog.records if each.levelname == "ERROR"]

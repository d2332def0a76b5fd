"""How often an answer is written, over real connections: on the loop of `lastro api`, and on asyncio's."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from app.http.protocol import BoundedProtocol
from tests.listening import serving
from tests.loops import on_each_loop

SENT: list[bytes] = []
OPEN: list[asyncio.Transport] = []


class Counted:
    """A transport that notes what is written at once."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        SENT.append(data)
        self._transport.write(data)


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
        try:
            yield reader
        finally:
            writer.close()
            await writer.wait_closed()


def request(*, close: bool = True, method: str = "GET") -> bytes:
    return b"%b / HTTP/1.1\r\nhost: x\r\n%b\r\n" % (
        method.encode(),
        b"connection: close\r\n" if close else b"",
    )


def head(length: int, status: int = 200) -> dict[str, Any]:
    size = [(b"content-length", str(length).encode())]
    return {"type": "http.response.start", "status": status, "headers": size}


async def whole(scope, receive, send) -> None:
    """Answers at once, as all do that are not long."""
    await send(head(5))
    await send({"type": "http.response.body", "body": b"whole"})


@on_each_loop
async def test_an_answer_is_sent_in_one_go():
    async with asked(whole, request()) as reader:
        assert (await reader.read()).endswith(b"\r\n\r\nwhole")
    assert [data.endswith(b"\r\n\r\nwhole") for data in SENT] == [True]


@on_each_loop
async def test_so_is_each_of_those_that_were_asked_for_together():
    async with asked(whole, request(close=False), request()) as reader:
        assert (await reader.read()).count(b"\r\n\r\nwhole") == 2
    assert [data.endswith(b"\r\n\r\nwhole") for data in SENT] == [True, True]


@pytest.mark.parametrize("close", [True, False])
@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
@on_each_loop
async def test_a_head_without_a_body_is_sent(method, status, close):
    async def bodiless(scope, receive, send) -> None:
        await send(head(0, status))
        await send({"type": "http.response.body", "body": b""})

    async with asked(bodiless, request(method=method, close=close)) as reader:
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 %d" % status)


@on_each_loop
async def test_a_head_does_not_wait_for_a_body_that_takes_its_time():
    """A long answer begins at once, however long its first row takes."""
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
    assert SENT[1:] == [b"slow"]


@on_each_loop
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


@on_each_loop
async def test_what_is_held_back_is_sent_before_the_end():
    """Uvicorn ends a connection right after what it says of a request that is none."""
    async with asked(whole, b"this is not HTTP\r\n\r\n") as reader:
        answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 400")
    assert b'"code":"invalid_request"' in answer


@pytest.mark.parametrize("why", [None, ConnectionResetError()])
@on_each_loop
async def test_nothing_is_sent_over_a_connection_that_was_lost_meanwhile(why):
    """A write after its last word is refused by uvloop; that word may come between a write and its turn."""
    over = asyncio.Event()

    async def cut_off(scope, receive, send) -> None:
        await send(head(1))
        OPEN[0].get_protocol().connection_lost(why)
        OPEN[0].abort()
        await asyncio.sleep(0)  # the turn of what is held back
        await send({"type": "http.response.body", "body": b"x"})
        over.set()

    async with asked(cut_off, request(close=False)) as reader:
        assert await reader.read() == b""
        await over.wait()
    assert SENT == []


@on_each_loop
async def test_an_answer_that_is_cut_has_no_hole():
    """Whoever asked says that it will ask no more, while much of the answer has not left yet."""
    # Fewer than a transport takes before it asks to wait.
    numbers = [b"%06d\n" % number for number in range(8_200)]
    on_its_way, is_over = asyncio.Event(), asyncio.Event()

    async def long(scope, receive, send) -> None:
        OPEN[0].get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send(piece(b"".join(numbers[:8_000])))
        on_its_way.set()
        while not OPEN[0].is_closing():  # noqa: ASYNC110 - what it polls is polled
            await asyncio.sleep(0.001)
        for number in numbers[8_000:-1]:
            await send(piece(number))
            await asyncio.sleep(0)
        await send(piece(numbers[-1]))
        await send({"type": "http.response.body", "body": b""})
        is_over.set()

    def piece(text: bytes) -> dict[str, Any]:
        return {"type": "http.response.body", "body": text, "more_body": True}

    with socket.socket() as asking:
        asking.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        asking.setblocking(False)
        async with serving(long, http=CountedProtocol) as port, asyncio.timeout(10):
            loop = asyncio.get_running_loop()
            await loop.sock_connect(asking, ("127.0.0.1", port))
            await loop.sock_sendall(asking, request(close=False))
            await on_its_way.wait()
            asking.shutdown(socket.SHUT_WR)
            await is_over.wait()
            answer = b""
            while read := await loop.sock_recv(asking, 65536):
                answer += read
    found = re.findall(rb"(?<![0-9a-f])\d{6}(?=\n)", answer)
    assert len(found) > 100
    assert found == [number.strip() for number in numbers[: len(found)]]

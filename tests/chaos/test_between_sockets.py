"""Bytes on a socket that no client library would send, against `lastro api` as it is run."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from app.embedded.ports import free_port
from app.http.protocol import BoundedProtocol
from tests.conftest import wait_until
from tests.listening import serving
from tests.processes import HOUSE

HEAD = b"GET /health/live HTTP/1.1\r\nHost: lastro.test\r\n"


@pytest.fixture(scope="module")
def port(tmp_path_factory) -> Iterator[int]:
    """Of an API whose stores are away: it has to withstand strangers all the same, one after the other."""
    port = free_port()
    away = f"127.0.0.1:{free_port()}"
    environment = {
        **os.environ,
        "LASTRO_REDIS_URL": f"redis://{away}/0",
        "LASTRO_DATABASE_URL": f"postgresql://nobody:nothing@{away}/lastro",
    }
    command = [sys.executable, "-m", "app.cli", "api", "--port", str(port), "--grace", "0"]
    process = subprocess.Popen(
        [*command, "--data", str(tmp_path_factory.mktemp("data"))],
        cwd=HOUSE,
        env=environment,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: _accepts(port) or process.poll() is not None, 20)
        yield port
    finally:
        process.kill()
        process.wait()


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def _said(port: int, *pieces: bytes, answers: int = 1) -> bytes:
    """What is answered to bytes sent piece by piece, to the end of the last answer or of the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    said = b""
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        async with asyncio.timeout(5):
            while said.count(b'{"status":"live"}') < answers and (more := await reader.read(65536)):
                said += more
    except ConnectionError:
        pass
    finally:
        writer.close()
    return said


async def test_a_head_without_an_end_is_cut_off(port):
    endless = [b"X-%d: " % number + b"a" * 10_000 + b"\r\n" for number in range(100)]
    assert b" 200 " not in await _said(port, HEAD, *endless, b"\r\n")
    assert b" 200 " not in await _said(port, HEAD + b"X: ", *[b"a" * 10_000] * 100, b"\r\n\r\n")
    assert b" 200 " not in await _said(port, b"GET /", *[b"a" * 10_000] * 100)
    assert b" 200 " in await _said(port, HEAD + b"\r\n")


async def test_heads_in_small_pieces_and_many_in_one_are_answered(port):
    assert b" 200 " in await _said(port, *[HEAD[i : i + 1] for i in range(len(HEAD))], b"\r\n")
    assert b" 200 " in await _said(
        port, HEAD, *[b"X-%d: " % n + b"a" * 9_000 + b"\r\n" for n in range(5)], b"\r\n"
    )
    said = await _said(port, (HEAD + b"\r\n") * 50, answers=50)
    assert said.count(b"HTTP/1.1 200") == 50


@pytest.mark.parametrize(
    "bytes_of_hell",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /health/live HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /health/live HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n",
        b"GET /health/live\x00 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /api/credits/grant HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"POST /api/credits/grant HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
    ],
)
async def test_what_is_no_request_is_refused_and_the_next_client_is_served(port, bytes_of_hell):
    assert b" 20" not in (await _said(port, bytes_of_hell + b"\r\n\r\n")).split(b"\r\n")[0]
    assert b" 200 " in await _said(port, HEAD + b"\r\n")


class Impatient(BoundedProtocol):
    """What `lastro api` speaks, with less time."""

    HEAD_SECONDS = 0.2


async def _live(scope, receive, send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"17")]})
    await send({"type": "http.response.body", "body": b'{"status":"live"}'})


@pytest.mark.parametrize(
    "pieces", [[], [b"G"], [HEAD], [HEAD + b"\r\n", b"G"]], ids=["nothing", "a byte", "half", "the next one"]
)
async def test_a_connection_that_does_not_finish_its_request_is_ended(pieces):
    async with serving(_live, http=Impatient) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for piece in pieces:
            writer.write(piece)
        async with asyncio.timeout(3):  # uvicorn's own patience is 5 s, and for ever before the first request
            said = await reader.read()
        assert said.count(b"HTTP/1.1 200") == (len(pieces) == 2)
        writer.close()

"""A real HTTP server that keeps what it is sent and answers what it is told to."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

import msgspec

from tests.listening import listening


class Request(NamedTuple):
    """As it came; headers by their names in lower case."""

    line: str
    headers: dict[str, str]
    body: bytes


class Answer(NamedTuple):
    """What is said. `told`: how long it is said to be, if it is not so long."""

    body: object = None
    status: str = "200 OK"
    headers: tuple[str, ...] = ()
    told: int | None = None
    after_seconds: float = 0


Answering = Callable[[Request], Awaitable[Answer]]


class Server:
    """`answer` may be set at any time, or a function be given that answers each request."""

    def __init__(self, answering: Answering | None = None) -> None:
        self.requests: list[Request] = []
        self.answer = Answer()
        self.url = ""
        self._answering = answering

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *rest = head.split("\r\n")[:-2]
        headers = {name.lower(): value for name, _, value in (each.partition(": ") for each in rest)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        self.requests.append(request := Request(line, headers, body))
        answer = await self._answering(request) if self._answering else self.answer
        await asyncio.sleep(answer.after_seconds)
        said = answer.body if isinstance(answer.body, bytes) else msgspec.json.encode(answer.body)
        length = len(said) if answer.told is None else answer.told
        lines = [f"HTTP/1.1 {answer.status}", f"content-length: {length}", "connection: close"]
        writer.write("".join(f"{each}\r\n" for each in [*lines, *answer.headers, ""]).encode() + said)
        await writer.drain()

    @property
    def paths(self) -> list[str]:
        return [re.sub(r"^\w+ | HTTP/1.1$", "", each.line) for each in self.requests]


@asynccontextmanager
async def serving(answering: Answering | None = None) -> AsyncIterator[Server]:
    server = Server(answering)
    async with listening(server.serve) as port:
        server.url = f"http://127.0.0.1:{port}"
        yield server

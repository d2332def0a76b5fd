"""HTTP/1.1 in as little time as possible, so that the times that people see are the ledger's and not ours.

One request at a time on a connection. Nothing is repeated here: who calls knows what may be.
"""

import asyncio
import ssl
from http import HTTPStatus
from typing import cast
from urllib.parse import urlsplit

import httptools
from msgspec import Struct

_IDLE_SECONDS_MAX = 3.0  # servers let go of idle ones, and a request that meets that is lost
_HTTPS = 443
_HTTP = 80


class Answer(Struct):
    """Of a server. Names of `headers` in lower case."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes

    @property
    def good(self) -> bool:
        return self.status < HTTPStatus.MULTIPLE_CHOICES


class Broken(ConnectionError):
    """The connection ended before the answer did: whether the request was done nobody knows."""


class Connection(asyncio.Protocol):
    """An open connection. `usable` says whether it takes another request."""

    def __init__(self) -> None:
        self.usable = True
        self.idle_since = 0.0
        self._transport: asyncio.Transport
        self._answered: asyncio.Future[Answer] | None = None

    async def ask(self, request: bytes) -> Answer:
        """Send a request and wait for its answer. Whoever stops waiting has to `abort`."""
        self._answered = asyncio.get_running_loop().create_future()
        self._parser = httptools.HttpResponseParser(self)
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self._transport.write(request)
        return await self._answered

    def abort(self) -> None:
        """Hang up, whatever is on its way."""
        self.usable = False
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by birth

    def data_received(self, data: bytes) -> None:
        if self._answered is None or self._answered.done():  # nothing was asked
            return self.abort()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(Broken(f"not HTTP: {error}"))
            self.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self.usable = False
        self._fail(Broken(str(error or "closed by the other side")))

    def on_header(self, name: bytes, value: bytes) -> None:
        """As httptools calls it."""
        self._headers[name.lower()] = value

    def on_body(self, body: bytes) -> None:
        """As httptools calls it, for each piece."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """As httptools calls it."""
        self.usable = self.usable and self._parser.should_keep_alive()
        if self._answered and not self._answered.done():
            answer = Answer(self._parser.get_status_code(), self._headers, b"".join(self._body))
            self._answered.set_result(answer)

    def _fail(self, error: Broken) -> None:
        if self._answered and not self._answered.done():
            self._answered.set_exception(error)


class Connections:
    """To one server; as many as there are requests at the same time. `close` them in the end."""

    def __init__(self, url: str, headers: dict[str, str]) -> None:
        parts = urlsplit(url)
        self._host, secure = parts.hostname or "", parts.scheme == "https"
        self._port = parts.port or (_HTTPS if secure else _HTTP)
        self._ssl = ssl.create_default_context() if secure else None
        lines = {"Host": parts.netloc.rpartition("@")[2], **headers}
        self._head = _lines(lines)
        self._idle: list[Connection] = []

    async def ask(
        self, method: str, target: str, headers: dict[str, str], body: bytes, *, half: bool = False
    ) -> Answer:
        """One request, and its answer. Who cancels it hangs up; with `half` of it sent, nothing else helps.

        Raises:
            OSError: There is no connection.
            Broken: There is none any more.
        """
        connection = self._reuse() or await self._open()
        length = {"Content-Length": str(len(body))} if body else {}
        head = f"{method} {target} HTTP/1.1\r\n{self._head}{_lines({**headers, **length})}\r\n"
        sent = body[: len(body) // 2] if half else body
        try:
            answer = await connection.ask(head.encode("latin-1") + sent)
        except BaseException:
            connection.abort()
            raise
        if half:  # answered before the rest was wanted, for which the server still waits
            connection.abort()
            return answer
        connection.idle_since = asyncio.get_running_loop().time()
        self._idle.append(connection)
        return answer

    def close(self) -> None:
        """Hang up on all that are idle."""
        for connection in self._idle:
            connection.abort()
        self._idle.clear()

    def _reuse(self) -> Connection | None:
        young = asyncio.get_running_loop().time() - _IDLE_SECONDS_MAX
        while self._idle:
            connection = self._idle.pop()
            if connection.usable and connection.idle_since > young:
                return connection
            connection.abort()
        return None

    async def _open(self) -> Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(Connection, self._host, self._port, ssl=self._ssl)
        return connection


def _lines(headers: dict[str, str]) -> str:
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items())

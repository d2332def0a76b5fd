"""HTTP/1.1 as uvicorn speaks it, with bounds that it lacks on the size and the time of a request's head; an
answer is sent in one go.
"""

from asyncio import TimerHandle, Transport
from typing import ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.http.door import POLICY, SECURITY
from app.http.handlers import PROBLEM
from app.http.joined import Joined
from app.http.problems import body
from app.http.wire import encode


class BoundedProtocol(HttpToolsProtocol):
    """Refuses a request whose method, path and headers do not end within `HEAD_BYTES_MAX` and one reading.

    A connection that has not sent them within `HEAD_SECONDS` is ended.
    """

    HEAD_BYTES_MAX: ClassVar[int] = 65_536
    HEAD_SECONDS: ClassVar[float] = 10.0

    _in_head = False
    _head_bytes = 0
    _head_ends: TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        self._joined = Joined(transport, self.loop)
        super().connection_made(self._joined)  # type: ignore[arg-type]
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_is_there()
        self._joined.forget()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        was_in_head = self._in_head
        super().data_received(data)
        if not self._in_head:
            self._head_is_there()
            return
        if self._head_ends is None:
            self._await_head()
        if was_in_head:
            self._head_bytes += len(data)
            if self._head_bytes > self.HEAD_BYTES_MAX and not self.transport.is_closing():
                self.send_400_response("The head of the request is too large.")

    def on_message_begin(self) -> None:
        self._in_head, self._head_bytes = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """What is not HTTP is answered as anything else that is wrong."""
        problem = encode(body("invalid_request", {"why": msg}))
        headers = [
            (b"content-type", PROBLEM),
            (b"content-length", b"%d" % len(problem)),
            (b"cache-control", b"no-store"),
            (b"connection", b"close"),
            *SECURITY,
            POLICY,
        ]
        lines = [b"HTTP/1.1 400 Bad Request", *(b"%b: %b" % header for header in headers), b"", problem]
        self.transport.write(b"\r\n".join(lines))
        self.transport.close()

    def _await_head(self) -> None:
        self._head_ends = self.loop.call_later(self.HEAD_SECONDS, self.transport.close)

    def _head_is_there(self) -> None:
        if self._head_ends is not None:
            self._head_ends.cancel()
            self._head_ends = None

"""Answers that are longer than memory: sent piece by piece, as fast as they are taken, and no further than
somebody takes them.

What goes wrong before the first piece is a problem like any other. What goes wrong afterwards cuts the
connection, so that the answer has no end (RFC 9112, 8) and no client takes it for a whole one.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TypeVar

import structlog
from litestar.types import HTTPResponseBodyEvent, HTTPResponseStartEvent, Receive, Scope, Send

from app.http.problems import Headers
from app.http.room import Room
from app.http.wire import Answer

T = TypeVar("T")

STALLED_SECONDS = 60.0

Pieces = AsyncGenerator[bytes, None]

log = structlog.get_logger("lastro.http")


class Streamed(Answer[T]):
    """An answer in pieces, of which the first is made before the head is sent."""

    def __init__(self, pieces: Pieces, media_type: bytes, headers: Headers = ()) -> None:
        super().__init__(None, headers, media_type=media_type)  # type: ignore[arg-type]
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        room: Room = scope["parts"].room  # type: ignore[typeddict-item]
        caller = scope["caller"].principal.by  # type: ignore[typeddict-item]
        with room.of(caller):
            async with aclosing(self._pieces) as pieces:
                first = await anext(pieces, b"")
                try:
                    await self._send(first, pieces, receive, send)
                except Exception as error:
                    log.warning(
                        "an answer was cut off", route=scope["path_template"], why=str(error) or repr(error)
                    )
                    raise

    async def _send(self, first: bytes, rest: Pieces, receive: Receive, send: Send) -> None:
        """All of it, or less to a client that has gone away."""
        gone = asyncio.create_task(_gone(receive))
        headers = [(b"content-type", self.type), (b"cache-control", self.cache), *self.more]
        start: HTTPResponseStartEvent = {"type": "http.response.start", "status": 200, "headers": headers}
        try:
            await send(start)
            await _one(send, first, more=True)
            async for piece in rest:
                if gone.done():
                    return
                await _one(send, piece, more=True)
            await _one(send, b"", more=False)
        finally:
            gone.cancel()


async def _one(send: Send, piece: bytes, *, more: bool) -> None:
    """A piece, waited for until the client has taken what came before it, but not for ever."""
    body: HTTPResponseBodyEvent = {"type": "http.response.body", "body": piece, "more_body": more}
    async with asyncio.timeout(STALLED_SECONDS):
        await send(body)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass

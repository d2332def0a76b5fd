"""The ceiling: an ASGI application that reads a request and answers what was encoded beforehand.

No framework, no auth, nothing decoded. What is left is the server and the load.
"""

from typing import Any

from app.http.receipts import moved
from app.http.wire import encode
from tests.bench.standins import InstantLedger


class BareApp:
    """Answers everything with the receipt of a deduct, of the same size as ours."""

    def __init__(self) -> None:
        self._body = encode(moved(InstantLedger().receipt))
        length = str(len(self._body)).encode()
        self._headers = [(b"content-type", b"application/json"), (b"content-length", length)]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        while (await receive()).get("more_body"):
            pass  # it may come in pieces
        status = 201 if scope["method"] == "POST" else 200
        await send({"type": "http.response.start", "status": status, "headers": self._headers})
        await send({"type": "http.response.body", "body": self._body})

    async def _live(self, receive: Any, send: Any) -> None:
        """There is nothing to open or to close."""
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

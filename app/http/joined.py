"""What is written right after each other goes out together.

uvicorn writes the head of an answer and then its body, and uvloop hands each to the kernel at once: two
system calls, where the kernel is a large part of what an answer costs.
"""

from asyncio import AbstractEventLoop, Transport
from typing import Any


class Joined:
    """A transport that holds the first of two writes back until the second one, or until the loop's next
    turn: a head whose body takes its time is sent without it.

    Only `write` and `close` keep their order; uvicorn sends by nothing else.
    """

    def __init__(self, transport: Transport, loop: AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held: bytes | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send it with what was held back before, or hold it back."""
        held, self._held = self._held, None
        if held is not None:
            self._transport.write(b"".join((held, data)))
        else:
            self._held = data
            self._loop.call_soon(self._flush)

    def close(self) -> None:
        """Send everything, then end."""
        self._flush()
        self._transport.close()

    def forget(self) -> None:
        """The connection was lost: nothing can be sent any more, not even by `_flush`."""
        self._held = None

    def _flush(self) -> None:
        # A transport that is closing still sends what it has, and what comes before it is through. To leave
        # out a piece and send the next one would make an answer with a hole in it.
        held, self._held = self._held, None
        if held is not None:
            self._transport.write(held)

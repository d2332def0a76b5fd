"""A bad wire between a client and its Redis: loses answers, cuts, holds back, goes away and comes back.

It understands no more of the protocol than where an EVALSHA begins, and relies on a client that waits for one
answer before it sends the next request, as the batcher does.
"""

import asyncio
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from app.embedded.ports import free_port

CHUNK = 65_536


class _Wire:
    """One connection of a client, and ours to the server for it."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.client = client
        self.server = server
        self.calls = False
        """Whether the last request was an EVALSHA."""
        self.silent = False
        """Whether nothing gets through to the client any more."""

    def cut(self) -> None:
        self.client.close()
        self.server.close()


class Proxy:
    """Stands in front of the server of a URL.

    calls      how many EVALSHA were passed on to the server
    requests   those requests, as they were
    answers    what the server answered to them, also where nobody was left to hear it
    lost       how many answers of an EVALSHA were lost after the server had carried it out
    """

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self._port = free_port()
        self._listener: asyncio.Server | None = None
        self._wires: set[_Wire] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._losing = 0
        self._cutting = True
        self._blinking = asyncio.Lock()
        self._open = asyncio.Event()
        self._open.set()
        self._happened = asyncio.Condition()
        self.calls = 0
        self.lost = 0
        self.requests: list[bytes] = []
        self.answers: list[bytes] = []
        self._holding = 0
        self._kept = asyncio.Event()
        self.kept = 0

    @property
    def url(self) -> str:
        return self._target._replace(netloc=f":{self._target.password}@127.0.0.1:{self._port}").geturl()

    async def __aenter__(self) -> Self:
        await self.come_up()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.go_down()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def lose_answers(self, count: int, *, cut: bool = True) -> None:
        """Lose the answers of the next EVALSHAs, each after the server has given it.

        The connection breaks, or (`cut=False`) nothing comes until the client gives up.
        """
        self._losing, self._cutting = count, cut

    def hold_back(self) -> None:
        """Pass on no request until `let_through`.

        Those that arrive meanwhile wait in their connections, also when the client has given up on them.
        """
        self._open.clear()

    def let_through(self) -> None:
        self._open.set()

    def keep_calls(self, count: int) -> None:
        """Keep the next EVALSHAs until `deliver_kept`, as the socket of a server does that stands still.

        Everything else passes. `kept` counts them.
        """
        self._holding = count
        self._kept.clear()

    def deliver_kept(self) -> None:
        self._holding = 0
        self._kept.set()

    async def until_kept(self, count: int) -> None:
        """Wait until so many EVALSHA are kept."""
        await self._until(lambda: self.kept >= count)

    async def until_answers(self, count: int) -> None:
        """Wait until the server has answered so many EVALSHA."""
        await self._until(lambda: len(self.answers) >= count)

    async def go_down(self) -> None:
        """Refuse connections, cut those that are open."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for wire in tuple(self._wires):
            wire.cut()

    async def come_up(self) -> None:
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", self._port)

    async def lead_to(self, url: str) -> None:
        """Stand in front of another server from now on, under the same address."""
        self._target = urlsplit(url)
        await self.blink()

    async def blink(self) -> None:
        """Go away and come back at once. May be called by several at the same time."""
        async with self._blinking:
            await self.go_down()
            await self.come_up()

    async def until_calls(self, count: int) -> None:
        """Wait until so many EVALSHA were passed on."""
        await self._until(lambda: self.calls >= count)

    async def until_lost(self, count: int) -> None:
        """Wait until so many answers were lost."""
        await self._until(lambda: self.lost >= count)

    async def _until(self, condition) -> None:
        async with asyncio.timeout(20), self._happened:
            await self._happened.wait_for(condition)

    async def _tell(self) -> None:
        async with self._happened:
            self._happened.notify_all()

    async def _accept(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        try:
            from_server, to_server = await asyncio.open_connection(self._target.hostname, self._target.port)
        except OSError:
            to_client.close()
            return
        wire = _Wire(to_client, to_server)
        self._wires.add(wire)
        for pump in (self._requests(wire, from_client), self._answers(wire, from_server)):
            task = asyncio.create_task(pump)
            self._tasks.add(task)

    async def _requests(self, wire: _Wire, from_client: asyncio.StreamReader) -> None:
        try:
            while data := await from_client.read(CHUNK):
                await self._open.wait()
                wire.calls = b"\r\nEVALSHA\r\n" in data
                if wire.calls and self._holding:
                    self._holding -= 1
                    self.kept += 1
                    await self._tell()
                    await self._kept.wait()
                if wire.calls:
                    self.calls += 1
                    self.requests.append(data)
                wire.server.write(data)
                await wire.server.drain()
                await self._tell()
            wire.server.write_eof()
        except OSError:
            wire.server.close()

    async def _answers(self, wire: _Wire, from_server: asyncio.StreamReader) -> None:
        try:
            while data := await from_server.read(CHUNK):
                if wire.calls:
                    self.answers.append(data)
                    await self._tell()
                if wire.calls and self._losing and not wire.silent:
                    self._losing -= 1
                    self.lost += 1
                    if self._cutting:
                        wire.cut()
                    wire.silent = True
                    await self._tell()
                if not wire.silent:
                    wire.client.write(data)
                    try:
                        await wire.client.drain()
                    except OSError:  # nobody is left to hear it
                        wire.silent = True
        except OSError:
            pass
        wire.server.close()
        self._wires.discard(wire)
        wire.client.close()

"""Small servers of tests, which leave no connection behind."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import uvicorn

from app.http.protocol import BoundedProtocol

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def listening(serve: Serve, port: int = 0, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Serve connections as long as the block lasts, on the port that it gives; then end those that are open.

    Before Python 3.12 `wait_closed` waits for none of them.
    """
    connections: set[asyncio.Task[None]] = set()

    async def ending(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        this = asyncio.current_task()
        assert this is not None
        connections.add(this)
        try:
            await serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # whoever asked has gone, or the test is over
        finally:
            connections.discard(this)
            writer.close()
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await writer.wait_closed()

    server = await asyncio.start_server(ending, "127.0.0.1", port, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        while connections:
            for each in connections:
                each.cancel()
            await asyncio.wait(connections)
        await server.wait_closed()


@asynccontextmanager
async def serving(
    application: Callable[..., Any], *, http: type[BoundedProtocol] = BoundedProtocol, lifespan: bool = False
) -> AsyncIterator[int]:
    """Serve an application over HTTP as `lastro api` does, on the port that it gives.

    `lifespan`: it is started and ended, too.
    """
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        config = uvicorn.Config(
            application,
            http=http,
            ws="none",
            lifespan="on" if lifespan else "off",
            log_config=None,
            server_header=False,
            timeout_graceful_shutdown=1,
        )
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve(sockets=[bound]))
        async with asyncio.timeout(20):
            while not server.started:  # noqa: ASYNC110 - what it polls is polled
                await asyncio.sleep(0.01)
        try:
            yield bound.getsockname()[1]
        finally:
            server.should_exit = True
            await task

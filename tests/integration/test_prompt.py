"""A command leaves before anybody else of the process has a turn."""

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import hiredis
import pytest
from redis import Redis as BlockingRedis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from app.ledger.connection import connect
from tests.loops import on_each_loop
from tests.prompt import seen_by_others

AT_ONCE = struct.pack("ii", 1, 0)
"""To linger so that a connection ends by a reset."""


@on_each_loop
async def test_a_command_has_left_before_others_run(redis_url):
    with BlockingRedis.from_url(redis_url) as theirs:
        async with connect(redis_url) as ours:
            assert b"1" == await seen_by_others(ours, theirs)


@on_each_loop
async def test_one_that_the_kernel_does_not_take_at_once_arrives_whole(redis_url):
    value = bytes(range(256)) * 40_000
    async with connect(redis_url) as ours:
        await ours.ping()
        for _ in range(3):
            await asyncio.gather(ours.set("prompt", value), ours.set("other", "1"))
            assert value == await ours.get("prompt")


@on_each_loop
async def test_an_address_may_ask_for_looks_at_the_connection(redis_url):
    """They come before a command, and not between it and its answer."""
    async with connect(f"{redis_url}?health_check_interval=1") as ours:
        assert 1 == await ours.incr("prompt")
        assert ours.connection is not None
        ours.connection.next_health_check = -1.0  # the second is over
        assert 2 == await ours.incr("prompt")


@on_each_loop
async def test_a_command_after_the_connection_was_lost_fails_once_and_the_next_is_served(redis_url):
    async with connect(redis_url) as ours, connect(redis_url) as others:
        await others.client_kill_filter(_id=await ours.client_id())
        with pytest.raises(RedisConnectionError):
            await ours.incr("prompt")
        assert 1 == await ours.incr("prompt")


class Server:
    """Answers OK to everything, breaks off, and stops reading."""

    def __init__(self) -> None:
        self._writer: asyncio.StreamWriter
        self._answering: dict[asyncio.Task, asyncio.StreamWriter] = {}

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        """Its address."""
        async with await asyncio.start_server(self._answer, "127.0.0.1") as listening:
            yield f"redis://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        for writer in self._answering.values():
            writer.transport.abort()
        await asyncio.wait(self._answering)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task, commands = asyncio.current_task(), hiredis.Reader()
        assert task is not None, "a server runs this"
        self._writer = self._answering[task] = writer
        with contextlib.suppress(OSError), contextlib.closing(writer):
            while received := await reader.read(65536):
                commands.feed(received)
                while commands.gets() is not False:
                    writer.write(b"+OK\r\n")

    async def break_off(self, *, after_its_end: bool) -> None:
        """Reset the last connection, which may have been ended before."""
        if after_its_end:
            self._writer.write_eof()
            await asyncio.sleep(0.05)  # nobody is told when the other side has seen it
        with socket.socket(fileno=os.dup(self._writer.get_extra_info("socket").fileno())) as same:
            same.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
            self._writer.transport.abort()
            with contextlib.suppress(OSError):
                await self._writer.wait_closed()
        await asyncio.sleep(0.05)

    def stop_reading(self) -> None:
        """What is sent over the last connection from now on stays where it is."""
        self._writer.transport.pause_reading()  # type: ignore[attr-defined]


@pytest.mark.parametrize(("seconds", "error"), [(0.1, RedisTimeoutError), (5.0, TimeoutError)])
@on_each_loop
async def test_a_command_that_does_not_get_through_is_given_up_with_its_connection(seconds, error):
    """In time, or because whoever sent it is cancelled; the next must not stand behind half a command."""
    server = Server()
    async with server.listening() as url, connect(url, answer_seconds=seconds) as ours:
        assert b"OK" == await ours.execute_command("ECHO", "1")
        server.stop_reading()
        with pytest.raises(error):
            await asyncio.wait_for(ours.execute_command("ECHO", bytes(50_000_000)), 0.5)
        assert b"OK" == await ours.execute_command("ECHO", "3")


@on_each_loop
async def test_a_connection_that_was_reset_while_nobody_used_it_counts_as_lost():
    server = Server()
    async with server.listening() as url:
        for after_its_end in (False, True):
            async with connect(url) as ours:
                assert b"OK" == await ours.execute_command("ECHO", "1")
                await server.break_off(after_its_end=after_its_end)
                with pytest.raises(RedisConnectionError):
                    await ours.execute_command("ECHO", "2")
                assert b"OK" == await ours.execute_command("ECHO", "3")

"""The parts of a whole ledger, each a process of its own that may be killed, and comes back on its data.

Valkey keeps its file `always` and answers are acknowledged as `fsync`; PostgreSQL is durable. Each API
reaches Redis over a bad wire of its own; workers and cron reach it directly, because a worker needs its wire
for more than calls.
"""

import asyncio
import secrets
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from app.embedded import CannotStart, Postgres, Process, Valkey
from app.embedded.ports import free_port
from app.up.program import Program
from app.up.readiness import Readiness
from persistence import api_keys
from persistence.birth import give_birth
from persistence.migrate import migrate
from persistence.pool import open_pool
from tests.chaos.proxy import Proxy

SHARDS = 4
START_SECONDS = 60.0
STARTS_MAX = 20
_PASSWORD = secrets.token_urlsafe(16)


class Sabotaged(Program):
    """A program of a ledger with one rule broken."""

    def __init__(self, broken: str, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self._broken = broken

    def command(self) -> list[str]:
        (
            python,
            *_,
        ) = super().command()
        return [python, "-m", "tests.chaos.storm.sabotage", self._broken, *self._arguments]


class Api:
    """One process of the API, and the wire between it and Redis."""

    def __init__(self, process: Program, wire: Proxy, port: int) -> None:
        self.process = process
        self.wire = wire
        self.url = f"http://127.0.0.1:{port}"
        self._readiness = Readiness("127.0.0.1", port)

    async def is_ready(self) -> bool:
        """Whether it says so of every shard: one that was rolled forward opens within a second."""
        answers = self.process.alive and await asyncio.to_thread(self._readiness.ask)
        return answers and "shard:" not in self._readiness.answer


class Stage:
    """An open ledger; everything ends with it.

    Args:
        folder: Empty, and such that PostgreSQL can enter it.
        apis: How many processes of the API.
        workers: How many workers.
        broken: What `sabotage` breaks; nothing when empty.
        ack: What an answer waits for.
    """

    def __init__(
        self, folder: Path, *, apis: int = 2, workers: int = 2, broken: str = "", ack: str = "fsync"
    ) -> None:
        self.folder = folder
        self._counts = apis, workers
        self._broken = broken
        self._ack = ack
        self._stack = AsyncExitStack()
        self.valkey = Valkey(folder / "valkey", folder / "valkey.log", password=_PASSWORD)
        self.postgres = Postgres(folder / "postgres", folder / "postgres.log", password=_PASSWORD)
        self.apis: list[Api] = []
        self.workers: list[Process] = []
        self.cron: Process
        self.token = ""

    async def __aenter__(self) -> Self:
        try:
            await self._open()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    @property
    def redis_url(self) -> str:
        """Where the ledger lives. The queues are in `valkey`, whatever lives there beside them."""
        return self.valkey.url

    @property
    def processes(self) -> Sequence[Process]:
        """All of them, those first on which the others stand."""
        return [self.valkey, self.postgres, *self.workers, *(api.process for api in self.apis), self.cron]

    async def revive(self, process: Process) -> None:
        """Start it again on its data, as often as it takes, and wait until it does its work."""
        async with asyncio.timeout(START_SECONDS):
            for _ in range(STARTS_MAX):
                with suppress(CannotStart):
                    if not process.alive:
                        process.spawn()
                    if await self._comes_up(process):
                        return
                await asyncio.sleep(0.1)
        raise CannotStart(f"{process.name} does not come back: {process.last_words(5)}")

    async def revive_all(self) -> None:
        """Start whatever has died, whoever killed it."""
        for process in self.processes:
            await self.revive(process)

    def logs(self, lines: int) -> str:
        """The last words of everybody."""
        return "\n".join(
            f"--- {process.name} ({process.log})\n{process.last_words(lines)}" for process in self.processes
        )

    async def new_api(self, name: str, redis_url: str) -> Api:
        """A process of the API, not started yet, over a wire to some Redis."""
        wire = await self._stack.enter_async_context(Proxy(redis_url))
        port = free_port()
        process = self._program(name, wire.url, "api", "--port", str(port))
        self._stack.callback(process.kill)
        return Api(process, wire, port)

    async def _comes_up(self, process: Process) -> bool:
        while process.alive:
            if await asyncio.to_thread(process.is_ready):
                return True
            await asyncio.sleep(0.02)
        return False

    async def _open(self) -> None:
        for server in (self.valkey, self.postgres):
            self._stack.callback(server.kill)
            server.start()
        await migrate(self.postgres.url)
        await give_birth(self.postgres.url, self.redis_url, SHARDS)
        pool = await open_pool(self.postgres.url, connections_max=1)
        try:
            self.token = await api_keys.create(pool, "storm", ("spend", "grant", "read"))
        finally:
            await pool.close()
        apis, workers = self._counts
        for number in range(1, workers + 1):
            self.workers.append(self._program(f"worker-{number}", self.redis_url, "worker"))
        self.cron = self._program("cron", self.redis_url, "cron")
        for number in range(1, apis + 1):
            self.apis.append(await self.new_api(f"api-{number}", self.redis_url))
        for process in self.processes[2:]:
            process.spawn()
            self._stack.callback(process.kill)

    def settings(self, redis_url: str) -> dict[str, str]:
        """Of a process that reaches Redis there."""
        return {
            "LASTRO_REDIS_URL": redis_url,
            "LASTRO_QUEUE_URL": self.valkey.url,
            "LASTRO_DATABASE_URL": self.postgres.url,
            "LASTRO_SHARDS": str(SHARDS),
            "LASTRO_ACK": self._ack,
            "LASTRO_LOG_LEVEL": "warning",
        }

    def _program(self, name: str, redis_url: str, *arguments: str) -> Program:
        settings = self.settings(redis_url)
        command = [*arguments, "--data", str(self.folder / "none")]
        log = self.folder / f"{name}.log"
        if self._broken:
            return Sabotaged(self._broken, name, log, command, settings)
        return Program(name, log, command, settings)

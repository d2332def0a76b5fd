"""What is measured, set up: servers, ledgers with customers, and the programs that serve them."""

import asyncio
import http.client
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AbstractContextManager, AsyncExitStack, ExitStack, asynccontextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, Self, TypeVar

import asyncpg
import uvloop
from redis import Redis as BlockingRedis

from app.embedded import Postgres, Process, Valkey
from app.embedded.ports import free_port
from app.ledger.batcher import Limits
from app.ledger.connection import connect
from app.ledger.ledger import Ledger
from app.ledger.operations import Grant
from app.settings import Settings
from app.up.program import Program
from persistence import admission, api_keys
from persistence.backing import PostgresBacking
from persistence.birth import give_birth
from persistence.migrate import migrate
from persistence.pool import open_pool

ACCOUNTS = [f"customer-{number:04}" for number in range(1000)]
CREDITS = 1_000_000_000
SHARDS = 16

Fsync = Literal["always", "everysec", "none"]

_READY_SECONDS = 90.0
_OPENED_AT_ONCE = 50  # PostgreSQL is asked about each, on a few connections

C = TypeVar("C")
P = TypeVar("P", bound=Process)
T = TypeVar("T")


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Its result, on uvloop as in the API."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(coroutine)


class Stored(Protocol):
    """A Valkey, or several that share the shards."""

    @property
    def url(self) -> str:
        """What LASTRO_REDIS_URL says."""
        ...


class House(NamedTuple):
    """A ledger of 1000 accounts, each with a plan and extras, and a key that may do everything."""

    valkey: Stored
    database_url: str
    token: str

    @property
    def settings(self) -> Settings:
        """Of a program that serves it, on a port of its own."""
        return Settings(
            redis_url=self.valkey.url, database_url=self.database_url, port=free_port(), shards=SHARDS
        )

    @asynccontextmanager
    async def ledger(self) -> AsyncIterator[Ledger]:
        """The engine in this process, as the API has it."""
        async with AsyncExitStack() as stack:
            redis = await stack.enter_async_context(connect(self.valkey.url))
            aside = await stack.enter_async_context(connect(self.valkey.url))
            pool = await stack.enter_async_context(await open_pool(self.database_url, connections_max=2))
            backing = PostgresBacking(pool, partial(admission.admit, pool, aside))
            ledger = Ledger(redis, backing, Limits())
            await ledger.start()
            stack.push_async_callback(ledger.stop)
            ledger.adopt(await backing.admit())
            yield ledger


class Service(Program):
    """A program that answers HTTP. `app`: one of `tests.bench.serve`, or `None` for `lastro api`."""

    def __init__(self, folder: Path, settings: Settings, app: str | None = None) -> None:
        name = app or "api"
        # It is shown a folder without anything, so that it takes nobody's running `lastro up` for its own.
        arguments = ["api", "--data", str(folder / "none")]
        super().__init__(name, folder / f"{name}-{settings.port}.log", arguments, settings.environment())
        self.port = settings.port
        self._app = app

    def command(self) -> list[str]:
        if self._app is None:
            return super().command()
        return [sys.executable, "-m", "tests.bench.serve", self._app]

    def is_ready(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=1.0)
        try:
            connection.request("GET", "/health/ready")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()


class Bed:
    """Everything that is started is ended in the end. For the main thread, like all child processes."""

    def __init__(self) -> None:
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self.folder = Path(tempfile.mkdtemp(prefix="lastro-bench-"))
        self._stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        if os.geteuid() == 0:
            self.folder.chmod(0o711)  # PostgreSQL runs as somebody else, and has to get through
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def enter(self, inside: AbstractContextManager[C]) -> C:
        """What it is on, until the bed ends."""
        return self._stack.enter_context(inside)

    def start(self, process: P) -> P:
        """Start it, wait until it is ready, and end it with the bed."""
        self._stack.callback(process.kill)
        self._stack.callback(process.stop)
        process.start(_READY_SECONDS)
        return process

    @cached_property
    def postgres(self) -> Postgres:
        """The one that most rows share."""
        return self.own_postgres()

    def own_postgres(self, **settings: str) -> Postgres:
        """As `lastro up` runs it: fsync and synchronous_commit are on. `settings`: what it has otherwise."""
        name = f"postgres-{secrets.token_hex(4)}"
        server = Postgres(self.folder / name, self.folder / f"{name}.log", password=secrets.token_hex())
        self.start(server)
        if settings:
            alter(server, settings)
        return server

    def valkey(self, appendfsync: Fsync) -> Valkey:
        """A Valkey of its own. Its AOF is never rewritten: that would fall into some rounds."""
        name = f"valkey-{secrets.token_hex(4)}"
        keeps = appendfsync != "none"
        server = Valkey(
            self.folder / name,
            self.folder / f"{name}.log",
            password=secrets.token_hex(),
            appendonly="yes" if keeps else "no",
            appendfsync=appendfsync if appendfsync != "none" else "everysec",
        )
        self.start(server)
        with BlockingRedis.from_url(server.url) as client:
            client.config_set("auto-aof-rewrite-percentage", 0)
        return server

    def database(self, postgres: Postgres, like: str = "template1") -> str:
        """The URL of a fresh database, a copy of `like`, to which nobody may be connected."""
        name = f"bench_{secrets.token_hex(4)}"
        run(execute(postgres.database_url("postgres"), f"CREATE DATABASE {name} TEMPLATE {like}"))
        return postgres.database_url(name)

    def born(self, appendfsync: Fsync = "everysec", postgres: Postgres | None = None) -> tuple[Valkey, str]:
        """A ledger without anything in it: its Redis, and the URL of its database."""
        valkey = self.valkey(appendfsync)
        return valkey, self.bear(valkey, postgres)

    def bear(self, valkey: Stored, postgres: Postgres | None = None) -> str:
        """Found a ledger there, in a database of its own; returns that one's URL."""
        database_url = self.database(postgres or self.postgres)
        run(migrate(database_url))
        run(give_birth(database_url, valkey.url, SHARDS))
        return database_url

    def house(self, appendfsync: Fsync = "everysec", postgres: Postgres | None = None) -> House:
        """A ledger, born and stocked."""
        return self.stocked(*self.born(appendfsync, postgres))

    def stocked(self, valkey: Stored, database_url: str) -> House:
        """A ledger that was born, with accounts and a key."""
        house = House(valkey, database_url, run(_key(database_url)))
        run(_stock(house))
        return house

    def api(self, house: House, app: str | None = None) -> Service:
        """`lastro api` on a house, or one of `tests.bench.serve` in its place."""
        return self.start(Service(self.folder, house.settings, app))

    def program(self, name: str, house: House) -> Program:
        """Another command of `lastro` on a house."""
        arguments = [name, "--data", str(self.folder / "none")]
        log = self.folder / f"{name}-{secrets.token_hex(4)}.log"
        return self.start(Program(name, log, arguments, house.settings.environment()))


def alter(server: Postgres, settings: Mapping[str, str]) -> None:
    """Give it these settings and no others; it is started anew."""
    url = server.database_url("postgres")
    run(execute(url, "ALTER SYSTEM RESET ALL"))
    for setting, value in settings.items():
        run(execute(url, f"ALTER SYSTEM SET {setting} = '{value}'"))
    server.stop()
    server.start()


async def execute(database_url: str, statement: str) -> None:
    """One statement on a connection of its own."""
    connection = await asyncpg.connect(database_url, ssl=False)
    await connection.execute(statement)
    await connection.close()


async def fetch(database_url: str, query: str) -> list[asyncpg.Record]:
    """The rows of one query, on a connection of its own."""
    connection = await asyncpg.connect(database_url, ssl=False)
    rows = await connection.fetch(query)
    await connection.close()
    return rows


async def _key(database_url: str) -> str:
    async with await open_pool(database_url, connections_max=1) as pool:
        return await api_keys.create(pool, "bench", ["spend", "grant", "read"])


async def _stock(house: House) -> None:
    async with house.ledger() as ledger:
        for bucket, priority in (("plan", 10), ("extras", 20)):
            for first in range(0, len(ACCOUNTS), _OPENED_AT_ONCE):
                grants = (
                    ledger.grant(Grant(account=account, amount=CREDITS, bucket=bucket, priority=priority))
                    for account in ACCOUNTS[first : first + _OPENED_AT_ONCE]
                )
                await asyncio.gather(*grants)


def wait_until(condition: Callable[[], bool], seconds: float) -> None:
    """Raises `TimeoutError` when it does not come to hold."""
    ends = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > ends:
            raise TimeoutError
        time.sleep(0.05)

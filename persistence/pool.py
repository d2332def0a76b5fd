"""Connections to PostgreSQL, and what it means when there are none.

A pool is made without connecting, so that a process starts while PostgreSQL is away and finds it later by
itself. TLS is used where the URL says so (`?sslmode=`); without that asyncpg would look for certificates in
the home of a user that the process may no longer be, and fail on its permissions.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import parse_qs, urlsplit

import asyncpg

from app.ledger.backing import BackingUnavailable

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]
    Pool: TypeAlias = asyncpg.Pool[asyncpg.Record]
else:
    Connection = asyncpg.Connection
    Pool = asyncpg.Pool

CONNECT_SECONDS = 2.0
ANSWER_SECONDS = 3.0
LET_GO_SECONDS = 0.5

_AWAY = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
    asyncpg.PostgresSystemError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.InternalClientError,  # what asyncpg says of a connection that broke at an unlucky moment
    asyncpg.UndefinedTableError,
)


SETTINGS = {"jit": "off"}
"""Of every connection: what is asked is short, and compiling it takes longer than answering it."""


def ssl_of(url: str) -> bool | None:
    """The `ssl` argument of asyncpg for a URL: `None` (as the URL says) or `False` (it says nothing)."""
    return None if "sslmode" in parse_qs(urlsplit(url).query) else False


async def open_pool(
    url: str, *, connections_max: int = 8, name: str = "lastro", plans_once: bool = False
) -> Pool:
    """A pool that connects when it is first used; the caller closes it.

    Args:
        url: Of PostgreSQL.
        connections_max: How many there are at most.
        name: For `pg_stat_activity`.
        plans_once: Whether a statement is planned once for a connection, not again for each of its values.
            For who looks a few rows up by keys: to plan that over all months takes longer than to do it.
    """
    return await asyncpg.create_pool(
        url,
        ssl=ssl_of(url),
        min_size=0,
        max_size=connections_max,
        timeout=CONNECT_SECONDS,
        max_inactive_connection_lifetime=60.0,
        server_settings={
            "application_name": name,
            **({"plan_cache_mode": "force_generic_plan"} if plans_once else {}),
            **SETTINGS,
        },
    )


@asynccontextmanager
async def _borrowed(pool: Pool, seconds: float) -> AsyncIterator[Connection]:
    """A connection, given back without waiting long for a server that is gone: then it is closed."""
    connection = await pool.acquire(timeout=seconds)
    try:
        yield connection
    except BaseException:
        with suppress(Exception):
            await pool.release(connection, timeout=LET_GO_SECONDS)
        raise
    await pool.release(connection, timeout=seconds)


@asynccontextmanager
async def answering(pool: Pool, seconds: float = ANSWER_SECONDS) -> AsyncIterator[Connection]:
    """A connection of the pool, for at most `seconds` from asking for it to the end of the block.

    Raises:
        BackingUnavailable: PostgreSQL is away, is not answering in time, or has no tables yet. What the block
            did may have happened.
    """
    try:
        async with asyncio.timeout(seconds), _borrowed(pool, seconds) as connection:
            yield connection
    except _AWAY as error:
        raise BackingUnavailable(f"PostgreSQL is away: {str(error) or type(error).__name__}") from error
    except asyncpg.InterfaceError as error:
        if isinstance(error, ValueError):
            raise  # wrong arguments or a wrong URL: not an absence
        raise BackingUnavailable(f"PostgreSQL went away: {error}") from error


@asynccontextmanager
async def pooled(
    url: str, *, connections_max: int, name: str, close_seconds: float, plans_once: bool = False
) -> AsyncIterator[Pool]:
    """A pool as long as the block lasts; then its queries may end, for `close_seconds` at most."""
    pool = await open_pool(url, connections_max=connections_max, name=name, plans_once=plans_once)
    try:
        yield pool
    finally:
        try:
            async with asyncio.timeout(close_seconds):
                await pool.close()
        except TimeoutError:
            pool.terminate()

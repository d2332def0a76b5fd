"""The keyring of a process asks PostgreSQL seldom, keeps little, and holds nobody up."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from app.ledger.backing import BackingUnavailable
from persistence import api_keys
from persistence.keyring import WAITING_MAX, Keyring
from persistence.pool import Pool
from tests.integration.test_api_keys import bearer, eventually, made_up


@pytest.fixture
async def counted(database_url: str) -> AsyncIterator[tuple[Pool, list[str]]]:
    """A pool, and the statements that went through it."""
    statements: list[str] = []

    async def listen(connection: asyncpg.Connection) -> None:
        connection.add_query_logger(lambda record: statements.append(record.query))

    async with asyncpg.create_pool(database_url, min_size=0, init=listen) as pool:
        yield pool, statements


async def test_made_up_keys_are_asked_about_together_and_not_again(counted):
    pool, statements = counted
    keyring = Keyring(pool)
    for _ in range(2):
        answers = await asyncio.gather(*(keyring.authenticate(made_up(n)) for n in range(WAITING_MAX)))
        assert [None] * WAITING_MAX == answers
    assert 4 == sum("WHERE hash = ANY" in each for each in statements)
    await keyring.stop()


async def test_what_has_not_the_shape_of_a_key_is_asked_of_nobody(counted):
    pool, statements = counted
    keyring = Keyring(pool)
    assert await keyring.authenticate(bearer("lk_short")) is None
    assert await keyring.authenticate(b"Bearer " + b"x" * 100_000) is None
    assert [] == statements
    await keyring.stop()


async def test_more_unknown_keys_than_may_wait_are_turned_away_and_none_is_called_wrong(database):
    keyring = Keyring(database)
    answers = await asyncio.gather(
        *(keyring.authenticate(made_up(n)) for n in range(WAITING_MAX + 5)), return_exceptions=True
    )
    assert 5 == sum(isinstance(each, BackingUnavailable) for each in answers)
    await keyring.stop()


async def test_made_up_keys_fill_no_memory(database, monkeypatch):
    monkeypatch.setattr("persistence.keyring.UNKNOWN_MAX", 100)
    keyring = Keyring(database)
    await asyncio.gather(*(keyring.authenticate(made_up(n)) for n in range(500)))
    assert 100 == len(keyring._unknown)
    assert 0 == len(keyring._waiting) == len(keyring._headers)
    await keyring.stop()


async def test_more_keys_than_a_process_keeps_make_room_for_each_other(database, monkeypatch):
    monkeypatch.setattr("persistence.keyring.KNOWN_MAX", 2)
    keyring = Keyring(database)
    headers = [bearer(await api_keys.create(database, f"key-{n}", ["spend"])) for n in range(4)]
    for header in headers:
        assert await keyring.authenticate(header)
    assert [False, False, True, True] == [keyring.known(header) is not None for header in headers]
    assert await keyring.authenticate(headers[0])
    assert 2 == len(keyring._headers)
    await keyring.stop()


async def test_those_who_wait_when_the_service_stops_are_told(database):
    keyring = Keyring(database)
    async with database.acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE api_keys")
        asking = asyncio.create_task(keyring.authenticate(made_up(1)))
        await eventually(lambda: keyring._waiting)
        await keyring.stop()
        with pytest.raises(BackingUnavailable):
            await asking


async def test_last_use_is_written_in_the_background_and_at_most_once_a_minute(database):
    keyring = Keyring(database)
    header = bearer(await api_keys.create(database, "shop", ["spend"]))
    await api_keys.create(database, "never", ["spend"])
    await keyring.authenticate(header)
    await keyring.write_used()
    used, never = [key.last_used_at for key in await api_keys.listed(database)]
    assert used is not None
    assert never is None
    keyring.known(header)
    await keyring.write_used()
    assert used == (await api_keys.listed(database))[0].last_used_at
    await database.execute("UPDATE api_keys SET last_used_at = now() - interval '1 minute'")
    keyring.known(header)
    await keyring.stop()
    assert used <= (await api_keys.listed(database))[0].last_used_at

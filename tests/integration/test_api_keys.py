"""API keys: made, shown once, recognised, revoked, and still known while PostgreSQL is away."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta

import pytest

from app.access import Principal
from app.embedded import Postgres
from app.ledger.backing import BackingUnavailable
from persistence import api_keys
from persistence.keyring import Keyring
from persistence.pool import Pool, open_pool


def bearer(token: str) -> bytes:
    return b"Bearer " + token.encode()


def made_up(number: int) -> bytes:
    return bearer(f"lk_aaaaaaaa_{number:043d}")


async def eventually(condition: Callable[[], object], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 (there is no event to wait for)
            await asyncio.sleep(0.01)


@pytest.fixture
async def keyring(database: Pool) -> AsyncIterator[Keyring]:
    ring = Keyring(database, poll_seconds=0.05)
    await ring.start()
    yield ring
    await ring.stop()


async def test_a_key_is_shown_once_and_only_its_hash_is_stored(database):
    token = await api_keys.create(database, "shop", ["spend"])
    assert api_keys.well_formed(token.encode())
    row = await database.fetchrow("SELECT * FROM api_keys")
    assert hashlib.sha256(token.encode()).digest() == row["hash"]
    assert token.split("_")[2] not in str(dict(row))


async def test_two_keys_have_nothing_in_common(database):
    one, two = [await api_keys.create(database, name, ["read"]) for name in ("one", "two")]
    assert one.split("_")[1:] != two.split("_")[1:]


async def test_the_list_shows_what_a_key_may_do_and_never_the_secret(database):
    token = await api_keys.create(database, "shop", ["spend", "grant", "spend"], account="acc-1")
    (key,) = await api_keys.listed(database)
    shown = (key.name, key.prefix, key.scopes, key.account)
    assert ("shop", token.split("_")[1], ["grant", "spend"], "acc-1") == shown
    assert token.split("_")[2] not in str(key)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"name": ""}, "name ''"),
        ({"name": "a b"}, "name 'a b'"),
        ({"name": "é"}, "name 'é'"),
        ({"name": "x" * 65}, "name "),
        ({"scopes": []}, "scopes none"),
        ({"scopes": ["spend", "fly"]}, "scopes fly, spend"),
        ({"account": "a/b"}, "account 'a/b'"),
        ({"account": ""}, "account ''"),
        ({"expires_at": datetime(2020, 1, 1, tzinfo=UTC)}, "expiry 2020-01-01"),
    ],
)
async def test_a_key_that_cannot_be_is_refused_by_name_and_value(database, changed, says):
    asked = {"name": "shop", "scopes": ["spend"], "account": None, "expires_at": None} | changed
    with pytest.raises(api_keys.KeyRefused, match=f"^{says}"):
        await api_keys.create(
            database, asked["name"], asked["scopes"], account=asked["account"], expires_at=asked["expires_at"]
        )
    assert [] == await api_keys.listed(database)


async def test_a_name_is_free_again_only_after_its_key_was_revoked(database):
    await api_keys.create(database, "shop", ["spend"])
    with pytest.raises(api_keys.KeyRefused, match="a key in force has it"):
        await api_keys.create(database, "shop", ["read"])
    assert ["shop"] == await api_keys.revoke(database, "shop")
    await api_keys.create(database, "shop", ["read"])
    assert [["read"]] == [key.scopes for key in await api_keys.listed(database)]
    assert 2 == len(await api_keys.listed(database, revoked=True))


@pytest.mark.parametrize("called", ["name", "prefix", "id"])
async def test_a_key_is_revoked_by_name_prefix_or_id_and_once(database, called):
    await api_keys.create(database, "other", ["read"])
    await api_keys.create(database, "shop", ["spend"])
    key = (await api_keys.listed(database))[1]
    assert ["shop"] == await api_keys.revoke(database, getattr(key, called))
    with pytest.raises(api_keys.KeyNotFound):
        await api_keys.revoke(database, getattr(key, called))
    assert ["other"] == [each.name for each in await api_keys.listed(database)]


async def test_a_key_is_recognised_and_from_then_on_by_one_look_up(database, keyring):
    header = bearer(await api_keys.create(database, "shop", ["spend"], account="acc-1"))
    assert keyring.known(header) is None
    principal = await keyring.authenticate(header)
    assert Principal("shop", frozenset({"spend", "read"}), frozenset({"acc-1"})) == principal
    assert principal.by == "key:shop"
    assert principal is keyring.known(header)


@pytest.mark.parametrize(
    ("scopes", "may"),
    [
        (["spend"], {"spend", "read"}),
        (["operate"], {"operate", "read"}),
        (["grant"], {"grant"}),
        (["read"], {"read"}),
    ],
)
async def test_spend_and_operate_include_read_and_grant_does_not(database, keyring, scopes, may):
    principal = await keyring.authenticate(bearer(await api_keys.create(database, "shop", scopes)))
    assert may == principal.scopes


async def test_the_scheme_is_read_in_any_case_and_the_token_exactly(database, keyring):
    token = (await api_keys.create(database, "shop", ["spend"])).encode()
    assert await keyring.authenticate(b"bearer  " + token)
    for wrong in (token + b"x", token.upper(), token[:-1], token + b"\n", b""):
        assert await keyring.authenticate(b"Bearer " + wrong) is None
    for header in (b"", b"Bearer", b"Basic " + token, token):
        assert await keyring.authenticate(header) is None


async def test_a_revoked_key_is_refused_by_every_process_within_five_seconds(database):
    header = bearer(await api_keys.create(database, "shop", ["spend"]))
    processes = [Keyring(database) for _ in range(2)]
    for each in processes:
        await each.start()
        assert await each.authenticate(header)
    await api_keys.revoke(database, "shop")
    await eventually(lambda: not any(each.known(header) for each in processes), seconds=5.0)
    for each in processes:
        assert await each.authenticate(header) is None
        await each.stop()


async def test_a_key_out_of_time_is_refused(database, keyring):
    soon = datetime.now(UTC) + timedelta(seconds=0.3)
    header = bearer(await api_keys.create(database, "shop", ["spend"], expires_at=soon))
    assert await keyring.authenticate(header)
    await eventually(lambda: keyring.known(header) is None)
    assert await keyring.authenticate(header) is None


async def test_a_key_made_after_the_start_is_known_before_its_first_use(database, keyring):
    header = bearer(await api_keys.create(database, "shop", ["spend"]))
    await keyring.refresh()
    async with database.acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE api_keys")
        async with asyncio.timeout(1):
            assert await keyring.authenticate(header)


async def test_a_change_of_scopes_arrives(database, keyring):
    header = bearer(await api_keys.create(database, "shop", ["spend"]))
    await keyring.authenticate(header)
    await database.execute("UPDATE api_keys SET scopes = '{grant}'")
    await eventually(lambda: keyring.known(header).scopes == {"grant"})


async def test_while_postgresql_is_away_known_keys_work_and_unknown_ones_are_not_called_wrong(
    own_postgres: Postgres,
):
    pool = await open_pool(own_postgres.url)
    token = await api_keys.create(pool, "shop", ["spend"])
    soon = datetime.now(UTC) + timedelta(seconds=1)
    ends = await api_keys.create(pool, "ends", ["spend"], expires_at=soon)
    keyring = Keyring(pool, poll_seconds=0.05)
    await keyring.start()
    assert await keyring.authenticate(bearer(ends))
    own_postgres.kill()
    assert await keyring.authenticate(bearer(token))
    assert not await keyring.refresh()
    assert keyring.known(bearer(token))
    with pytest.raises(BackingUnavailable):
        await keyring.authenticate(made_up(1))
    await eventually(lambda: keyring.known(bearer(ends)) is None)
    own_postgres.restart()
    await eventually(lambda: keyring._asked_at > soon)
    assert await keyring.authenticate(made_up(1)) is None
    await keyring.stop()
    await pool.close()


async def test_a_service_that_starts_without_postgresql_finds_its_keys_later(own_postgres: Postgres):
    pool = await open_pool(own_postgres.url)
    header = bearer(await api_keys.create(pool, "shop", ["spend"]))
    own_postgres.kill()
    keyring = Keyring(pool, poll_seconds=0.05)
    await keyring.start()
    with pytest.raises(BackingUnavailable):
        await keyring.authenticate(header)
    own_postgres.restart()
    await eventually(lambda: keyring._known)
    assert await keyring.authenticate(header)
    await keyring.stop()
    await pool.close()

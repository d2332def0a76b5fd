"""The rate card in PostgreSQL: versions that nobody changes, and processes that price from what they know."""

import asyncio
import base64
from collections.abc import AsyncIterator
from itertools import pairwise

import asyncpg
import pytest

from app.embedded import Postgres
from app.ledger.backing import BackingUnavailable
from app.rates import CardFull, CardUnknown, ModelNotFound, Rate
from app.reports import InvalidCursor
from persistence import rates as module
from persistence.pool import Pool, open_pool
from persistence.rates import PostgresRates
from tests.integration.test_api_keys import eventually

NEVER = 3600.0


@pytest.fixture
async def rates(database: Pool) -> AsyncIterator[PostgresRates]:
    kept = PostgresRates(database, database, poll_seconds=NEVER)
    await kept.start()
    yield kept
    await kept.stop()


@pytest.fixture
async def elsewhere(database: Pool) -> AsyncIterator[PostgresRates]:
    """The same card as another process knows it."""
    kept = PostgresRates(database, database, poll_seconds=NEVER)
    await kept.start()
    yield kept
    await kept.stop()


async def put(
    rates: PostgresRates,
    model: str = "lip-sync",
    base: str = "1",
    price: str = "1",
    ttl_seconds: int | None = None,
) -> Rate:
    return await rates.put(model, base, price, ttl_seconds, "key:operator")


async def test_a_version_says_who_put_what_and_when_and_prices_at_once(rates, database):
    before = await database.fetchval("SELECT clock_timestamp()")
    made = await put(rates, base="0.5", price="9007199254740990.999999", ttl_seconds=900)
    assert ("lip-sync", 1, "0.5", "9007199254740990.999999", 900, "key:operator") == (
        made.model, made.version, made.base, made.price, made.ttl_seconds, made.by,
    )  # fmt: skip
    assert before <= made.at <= await database.fetchval("SELECT clock_timestamp()")
    assert made == rates.card.get("lip-sync")
    assert 1 == rates.card.price("lip-sync", 0).credits


async def test_the_same_values_again_make_no_version_and_any_other_value_does(rates):
    first = await put(rates)
    assert first == await put(rates)
    for number, changed in enumerate([{"price": "2"}, {"base": "0"}, {"ttl_seconds": 60}, {}], start=2):
        made = await put(rates, **changed)
        assert (number, made) == (made.version, await put(rates, **changed))
    assert 5 == len((await rates.versions("lip-sync", cursor=None, limit=200)).data)


async def test_versions_put_at_once_follow_each_other_without_gaps(rates, elsewhere):
    """Some of them the same at the same moment: they make one version, or several with another in between."""
    sides = (rates, elsewhere)
    asked = [str(number // 4) for number in range(40)]
    made = await asyncio.gather(
        *(put(sides[index % 2], "lip-sync", price=price) for index, price in enumerate(asked))
    )
    versions = (await rates.versions("lip-sync", cursor=None, limit=200)).data
    assert list(range(len(versions), 0, -1)) == [each.version for each in versions]
    assert 10 <= len(versions) <= 40
    assert all(newer.price != older.price for newer, older in pairwise(versions))
    assert asked == [each.price for each in made]
    assert {each.version for each in made} == {each.version for each in versions}
    for side in sides:
        await side.refresh()
    assert versions[0] == elsewhere.card.get("lip-sync") == rates.card.get("lip-sync")


async def test_a_version_is_never_changed_or_taken_away(rates, database):
    await put(rates)
    for statement in ("UPDATE rates SET price = 0", "DELETE FROM rates", "TRUNCATE rates"):
        with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
            await database.execute(statement)


@pytest.mark.parametrize(
    "changed",
    [
        "base = -1",
        "price = 9007199254740992",
        "base = 'NaN'",
        "ttl_seconds = 0",
        "version = 0",
        "model = 'a b'",
    ],
)
async def test_the_database_itself_takes_no_price_that_cannot_be(database, changed):
    name, _, value = changed.partition(" = ")
    row = {"model": "'m'", "version": "1", "base": "1", "price": "1", "ttl_seconds": "60", "by": "'x'"} | {
        name: value
    }
    with pytest.raises(asyncpg.CheckViolationError):
        await database.execute(f"INSERT INTO rates ({', '.join(row)}) VALUES ({', '.join(row.values())})")


async def test_what_is_put_is_known_elsewhere_with_the_next_look(database, rates):
    other = PostgresRates(database, database, poll_seconds=0.05)
    await other.start()
    watching = asyncio.create_task(other.watch())
    try:
        for version in (1, 2):
            await put(rates, price=str(version))
            await eventually(lambda: other.card.get("lip-sync") == rates.card.get("lip-sync"))
        await put(rates, "another")
        await eventually(lambda: "another" in other.card)
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await other.stop()


def test_a_price_is_everywhere_within_5_seconds():
    longest = module.POLL_SECONDS + module.SHARING_SECONDS + module.ANSWER_SECONDS
    assert longest < 5.0


async def test_what_another_process_put_a_moment_ago_is_learned_before_it_is_priced(rates, elsewhere):
    await put(rates)
    assert elsewhere.card.get("lip-sync") is None
    await elsewhere.learn(["lip-sync"])
    assert 51 == elsewhere.card.price("lip-sync", 50).credits


async def test_many_who_ask_for_unknown_models_share_a_look_and_known_ones_cost_none(rates, database):
    looks = 0
    refresh = rates.refresh

    async def counted() -> bool:
        nonlocal looks
        looks += 1
        return await refresh()

    rates.refresh = counted
    await put(rates)
    await asyncio.gather(*(rates.learn([f"unknown-{number}"]) for number in range(100)))
    assert 1 == looks
    await rates.learn(["lip-sync"])
    assert 1 == looks
    with pytest.raises(ModelNotFound):
        rates.card.price("unknown-1", 1)


async def test_more_than_may_wait_for_a_look_are_told_so(rates, monkeypatch):
    monkeypatch.setattr(module, "WAITING_MAX", 3)
    asked = [asyncio.create_task(rates.learn([f"unknown-{number}"])) for number in range(5)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert [None] * 3 == answers[:3]
    assert all(isinstance(answer, BackingUnavailable) for answer in answers[3:])
    await rates.learn(["unknown"])


async def test_a_price_put_while_the_card_is_being_read_is_not_forgotten(rates, database, monkeypatch):
    """The card is read, then a version is put here, and only then what was read takes effect."""
    await put(rates)
    async with database.acquire() as other:
        await other.execute("INSERT INTO rates (model, version, base, price, by) VALUES ('a', 1, 1, 1, 'x')")
    read = module._rate

    def while_reading(row: asyncpg.Record) -> Rate:
        if not rates._put:
            made = Rate(
                model="lip-sync", version=2, base="0", price="9", ttl_seconds=None, by="x", at=row["at"]
            )
            rates._put.append(made)
            rates.card.put(made)
        return read(row)

    monkeypatch.setattr(module, "_rate", while_reading)
    await rates.refresh()
    assert (2, 1) == (rates.card.get("lip-sync").version, rates.card.get("a").version)


async def test_the_listing_has_the_latest_of_each_model_in_pages(rates):
    names = sorted(["b", "a/z", "Z", "a", "é".encode().hex(), "c-1", "c.1"])
    for name in names:
        await put(rates, name)
        await put(rates, name, price="2")
    seen, cursor = [], None
    while True:
        page = await rates.latest(cursor=cursor, limit=2)
        seen += page.data
        cursor = page.next_cursor
        if cursor is None:
            break
    assert [(name, 2) for name in names] == [(each.model, each.version) for each in seen]


async def test_the_history_of_a_model_comes_newest_first_in_pages(rates):
    for price in range(5):
        await put(rates, price=str(price))
    await put(rates, "other")
    first = await rates.versions("lip-sync", cursor=None, limit=2)
    second = await rates.versions("lip-sync", cursor=first.next_cursor, limit=2)
    last = await rates.versions("lip-sync", cursor=second.next_cursor, limit=2)
    assert [5, 4, 3, 2, 1] == [each.version for page in (first, second, last) for each in page.data]
    assert last.next_cursor is None
    with pytest.raises(InvalidCursor):
        await rates.versions("other", cursor=first.next_cursor, limit=2)
    with pytest.raises(ModelNotFound):
        await rates.versions("nobody", cursor=None, limit=2)


def encoded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "cursor",
    ["", "!", "é", "AAAA", "a" * 512, encoded("lip-sync"), encoded("lip-sync 0"), encoded("lip-sync 1 2"),
     encoded("lip-sync -1"), encoded("lip-sync 99999999999"), encoded("lip sync 1"),
     encoded("lip-sync \u0661")],
)  # fmt: skip
async def test_a_cursor_that_no_page_gave_is_refused(rates, cursor):
    await put(rates)
    with pytest.raises(InvalidCursor):
        await rates.versions("lip-sync", cursor=cursor, limit=2)
    with pytest.raises(InvalidCursor):
        await rates.latest(cursor=cursor, limit=2)


async def test_a_card_has_so_many_models_and_no_more(rates, monkeypatch):
    monkeypatch.setattr(module, "MODELS_MAX", 2)
    await put(rates, "a")
    await put(rates, "b")
    with pytest.raises(CardFull):
        await put(rates, "c")
    assert 2 == (await put(rates, "b", price="2")).version
    assert "c" not in rates.card


async def test_while_postgres_is_away_prices_stay_as_last_known(own_postgres: Postgres):
    url = own_postgres.url
    async with await open_pool(url) as pool:
        rates = PostgresRates(pool, pool, poll_seconds=NEVER)
        await rates.start()
        await put(rates, ttl_seconds=900)
        own_postgres.kill()
        assert not await rates.refresh()
        assert (51, 900) == (rates.card.price("lip-sync", 50).credits, rates.card.get("lip-sync").ttl_seconds)
        await rates.learn(["unknown"])
        with pytest.raises(CardUnknown):
            rates.card.price("unknown", 1)
        with pytest.raises(BackingUnavailable):
            await put(rates, price="2")
        for asked in (rates.latest(cursor=None, limit=1), rates.versions("lip-sync", cursor=None, limit=1)):
            with pytest.raises(BackingUnavailable):
                await asked
        own_postgres.start()
        await rates.learn(["unknown"])
        with pytest.raises(ModelNotFound):
            rates.card.price("unknown", 1)
        await rates.stop()


async def test_a_process_that_has_never_seen_the_card_prices_nothing_until_it_has(own_postgres: Postgres):
    url = own_postgres.url
    async with await open_pool(url) as pool:
        there = PostgresRates(pool, pool, poll_seconds=NEVER)
        await there.start()
        await put(there)
    own_postgres.kill()
    async with await open_pool(url) as pool:
        rates = PostgresRates(pool, pool, poll_seconds=NEVER)
        await rates.start()
        with pytest.raises(CardUnknown):
            rates.card.price("lip-sync", 50)
        with pytest.raises(CardUnknown):
            rates.card.get("lip-sync")
        own_postgres.start()
        await rates.learn(["lip-sync"])
        assert 51 == rates.card.price("lip-sync", 50).credits
        await rates.stop()


async def test_a_card_that_went_back_in_time_with_its_database_is_followed(rates, database):
    """PostgreSQL was restored from an older copy: what it says is the card, whatever was known before."""
    await put(rates, price="1")
    await put(rates, price="2")
    await database.execute("ALTER TABLE rates DISABLE TRIGGER ALL; DELETE FROM rates WHERE version = 2")
    await rates.refresh()
    assert "1" == rates.card.get("lip-sync").price

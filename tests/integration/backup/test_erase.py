"""What is personal of an account that is over is gone from both stores; its credits and the chain stay."""

from datetime import timedelta

import asyncpg
import msgspec
import pytest

from app.ledger import keys
from app.ledger.connection import connect as connect_redis
from app.ledger.entries import seal
from app.ledger.operations import Cancel, Configure, Confirm, Deduct, Grant, Reserve
from app.ledger.replies import Reservation
from app.ledger.shards import new_reservation_id, shard_of
from persistence.admission import admit
from persistence.backup.drill import Willing, faults
from persistence.backup.export import export
from persistence.backup.importing import import_backup
from persistence.backup.reading import Backup
from persistence.birth import give_birth
from persistence.erase import Erased, EraseRefused, erase
from persistence.restore import restore
from persistence.verify import verify
from tests.integration.backup.books import SHARDS
from tests.integration.dying import Killed, dies_at
from tests.integration.streams import Caller

ANA = shard_of("ana", SHARDS)
WORDS = ("a secret reason", "secret-image", "secret-session")


def noted(**given: object) -> dict[str, str]:
    sealed = seal(**given)
    return {"notes": sealed.text, "notes_hash": sealed.hash}


class Life:
    """Of an account `ana`, and of a `bob` beside her."""

    def __init__(self, caller: Caller, database, redis, journal_all) -> None:
        self.caller, self.database, self.redis, self.journal = caller, database, redis, journal_all
        self.reservations: list[str] = []

    async def call(self, *operations) -> None:
        reply = await self.caller.call(operations)
        assert [type(each).__name__ for each in reply.results] == ["Applied"] * len(operations), reply.results

    async def reserve(self, amount: int) -> str:
        seconds, _ = await self.redis.time()
        name = new_reservation_id(ANA, seconds * 1000)
        metadata = {"session": "secret-session"}
        await self.call(
            Reserve(
                shard=ANA,
                account="ana",
                reservation=name,
                amount=amount,
                ttl_ms=60_000,
                resource="secret-image",
                metadata=metadata,
                **noted(resource="secret-image", metadata=metadata),
            )
        )
        self.reservations.append(name)
        return name

    async def live(self) -> None:
        """To the end: nothing is left, and the account is closed."""
        bob = shard_of("bob", SHARDS)
        reason = noted(reason="a secret reason")
        await self.call(
            Grant(shard=bob, account="bob", amount=9, open=True, **noted(reason="bob's own")),
            Grant(shard=ANA, account="ana", amount=9, open=True, **reason),
        )
        first, second = await self.reserve(4), await self.reserve(3)
        await self.call(
            Confirm(shard=ANA, reservation=first), Deduct(shard=ANA, account="ana", amount=2, **reason)
        )
        await self.call(Cancel(shard=ANA, reservation=second, reason="a secret reason", **reason))
        await self.call(Deduct(shard=ANA, account="ana", amount=3))
        await self.call(Configure(shard=ANA, account="ana", status="closed"))
        await self.journal()

    async def trim(self) -> None:
        """What an hour does to the stream."""
        await self.redis.xtrim(keys.journal(ANA), maxlen=0)

    async def erase(self, **options) -> Erased:
        async with self.database.acquire() as connection:
            return await erase(connection, self.redis, "ana", by="somebody", reason="asked to", **options)

    async def found(self) -> list[str]:
        """Where personal words still are."""
        rows = await self.database.fetch("SELECT text FROM notes UNION ALL SELECT notes FROM orphans")
        texts = [row["text"] or "" for row in rows]
        for key in await self.redis.keys("*"):
            if b":lane:" in key:  # the last answer of a process, for ten minutes
                continue
            if await self.redis.type(key) == b"string":
                texts.append((await self.redis.get(key)).decode())
            elif await self.redis.type(key) == b"stream":
                texts += [str(fields) for _, fields in await self.redis.xrange(key)]
        return [word for word in WORDS for text in texts if word in text]


@pytest.fixture
async def life(database, database_url, redis, redis_url, journal_all) -> Life:
    await give_birth(database_url, redis_url, SHARDS)
    return Life(Caller(redis, await admit(database, redis)), database, redis, journal_all)


async def test_nothing_personal_is_left_of_an_account_that_is_over(life, database):
    await life.live()
    await life.trim()
    assert sorted({*await life.found()}) == sorted(WORDS)
    ttl = await life.redis.pttl(keys.reservation(ANA, life.reservations[0]))
    assert await life.erase() == Erased(notes=5, reservations=2)
    assert await life.found() == []
    assert await database.fetchval("SELECT text FROM notes") is not None, "bob's are his"
    assert 0 < await life.redis.pttl(keys.reservation(ANA, life.reservations[0])) <= ttl
    async with database.acquire() as connection:
        verdict = await verify(connection, since=1)
        assert (verdict.findings, verdict.erased) == ([], 5)
        said = await connection.fetch("SELECT by, reason FROM erasures")
        assert {tuple(row) for row in said} == {("somebody", "asked to")}
    stored = await life.redis.get(keys.reservation(ANA, life.reservations[1]))
    reservation = msgspec.json.decode(stored, type=Reservation)
    assert (reservation.status, reservation.released, reservation.resource) == ("cancelled", 3, None)
    assert await life.erase() == Erased(0, 0)


@pytest.mark.parametrize("step", ["after look", "after redis", "after commit"])
async def test_an_erasure_that_was_cut_off_is_begun_again(life, step):
    await life.live()
    await life.trim()
    with pytest.raises(Killed):
        await life.erase(barrier=dies_at(step))
    await life.erase()
    assert await life.found() == []


async def test_an_account_is_not_over_while_it_has_anything(life):
    with pytest.raises(EraseRefused, match="knows no account ana"):
        await life.erase()
    await life.call(Grant(shard=ANA, account="ana", amount=5, open=True))
    await life.journal()
    with pytest.raises(EraseRefused, match="5 credits are available, 0 held, 0 reservations open"):
        await life.erase()
    name = await life.reserve(5)
    await life.journal()
    with pytest.raises(EraseRefused, match="0 credits are available, 5 held, 1 reservations open"):
        await life.erase()
    await life.call(Confirm(shard=ANA, reservation=name))
    with pytest.raises(EraseRefused, match="5 held"):
        await life.erase()
    await life.journal()
    with pytest.raises(EraseRefused, match=r"ana is active, and may go on at any moment\. Close it first"):
        await life.erase()
    await life.call(Configure(shard=ANA, account="ana", status="frozen"))
    await life.journal()
    with pytest.raises(EraseRefused, match="ana is frozen"):
        await life.erase()


async def test_what_only_redis_knows_yet_is_waited_for(life):
    await life.live()
    await life.trim()
    await life.call(Configure(shard=ANA, account="ana", status="active"))
    with pytest.raises(EraseRefused, match="PostgreSQL does not have everything of ana yet"):
        await life.erase()
    await life.journal()
    with pytest.raises(EraseRefused, match="ana is active"):
        await life.erase()


async def test_notes_in_the_stream_would_come_back_and_keep_all_from_being_erased(life):
    await life.live()
    at = await life.database.fetchval("SELECT max(at) FROM journal JOIN notes USING (shard, seq)")
    with pytest.raises(EraseRefused, match=r"Redis still has the last notes .* in the stream of shard") as no:
        await life.erase(kept_seconds=5400)
    assert f"erase after {at + timedelta(minutes=90):%Y-%m-%d %H:%M:%S} UTC" in str(no.value)
    assert sorted({*await life.found()}) == sorted(WORDS)
    await life.redis.xtrim(keys.journal(ANA), minid="9-0")
    assert (await life.erase()).notes == 5


async def test_what_happens_in_the_middle_of_an_erasure_stops_it(life):
    await life.live()
    await life.trim()

    async def meanwhile(step: str) -> None:
        if step == "after redis":
            await life.database.execute("UPDATE accounts SET version = version + 1 WHERE account = 'ana'")

    with pytest.raises(EraseRefused, match="Something happened to ana meanwhile"):
        await life.erase(barrier=meanwhile)
    assert await life.database.fetchval("SELECT count(*) FROM erasures") == 0


async def test_a_fenced_shard_or_a_lost_account_is_refused(life, database):
    await life.live()
    await life.trim()
    stored = await life.redis.getdel(keys.account(ANA, "ana"))
    with pytest.raises(EraseRefused, match="Redis does not have ana"):
        await life.erase()
    await life.redis.set(keys.account(ANA, "ana"), stored)
    await database.execute("UPDATE shards SET fence = 'so', fenced_at = now(), fenced_by = 'operator'")
    with pytest.raises(EraseRefused, match=r"Shard \d of ana is fenced: so"):
        await life.erase()


async def test_entries_that_were_salvaged_lose_their_notes_too(life, database):
    await life.live()
    await life.trim()
    await database.execute(
        """
        INSERT INTO orphans (shard, seq, entry, notes, why, sha256)
        VALUES ($1, 9, '{"v":1,"account":"ana"}', 'a secret reason', 'x', sha256('x'))
        """,
        ANA,
    )
    await database.execute(
        """
        INSERT INTO repairs (by, account, side, before, after) VALUES ('x', 'ana', 'redis',
          '{"account": {"held": 1}, "reservations": {"a": {"resource": "secret-image"}}}',
          '{"account": {"reservations": [{"resource": "secret-image"}]}, "wrong": ["secret-image"]}')
        """
    )
    await life.erase()
    assert await life.found() == []
    (kept,) = await database.fetch("SELECT before::text, after::text FROM repairs")
    assert tuple(kept) == ('{"account": {"held": 1}}', '{"account": {}}')


async def test_what_providers_told_and_others_were_told_goes_with_it(life, database):
    await life.live()
    await life.trim()
    for account in ("ana", "bob"):
        await database.execute(
            """
            INSERT INTO webhook_inbox (provider, named, outcome, status, account, resource, reason, payload)
            VALUES ('sync', $1, 'failed', 'verified', $1, 'secret-image', 'a secret reason', '{}')
            """,
            account,
        )
        await database.execute(
            "INSERT INTO events (type, account, at, body) VALUES ('x', $1, now(), 'secret-image')", account
        )
        await database.execute(
            """
            INSERT INTO operator_actions (key, act, by, reason, account)
            VALUES ($1, 'adjust', 'dashboard:eva', 'a secret reason', $1)
            """,
            account,
        )
    await life.erase()
    told = await database.fetch("SELECT account, payload, reason, resource FROM webhook_inbox ORDER BY id")
    assert [("ana", None, None, None), ("bob", "{}", "a secret reason", "secret-image")] == [
        tuple(each) for each in told
    ]
    assert [("bob",)] == [tuple(each) for each in await database.fetch("SELECT account FROM events")]
    done = await database.fetch("SELECT account, by, reason FROM operator_actions ORDER BY id")
    assert [("ana", "dashboard:eva", None), ("bob", "dashboard:eva", "a secret reason")] == [
        tuple(each) for each in done
    ]


async def test_an_erased_account_is_backed_up_brought_back_and_restored(
    life, database, redis, redis_url, second, second_url, tmp_path
):
    await life.live()
    await life.trim()
    await life.erase()
    async with database.acquire() as connection:
        await export(connection, tmp_path / "a.gz")
        stood = await connection.fetch("SELECT account, version, available FROM accounts ORDER BY account")
    assert not any(word.encode() in (tmp_path / "a.gz").read_bytes() for word in WORDS)
    await redis.flushall()
    async with connect_redis(redis_url) as client:
        await import_backup(second, client, Backup(tmp_path / "a.gz"))
    restored = await restore(
        second_url, redis_url, salvage=tmp_path / "orphans", watch=Willing(lambda _count: None)
    )
    assert faults(restored) == []
    assert await second.fetch("SELECT account, version, available FROM accounts ORDER BY account") == stood
    async with asyncpg.create_pool(second_url, min_size=1) as pool:
        caller = Caller(redis, await admit(pool, redis))
        again = Configure(shard=ANA, account="ana", status="active")
        grant = Grant(shard=ANA, account="ana", amount=1)
        reply = await caller.call([grant, again, grant])
        assert reply.results[0].word == "account_closed"
        assert reply.accounts[0].available == 1
    verdict = await verify(second, since=1)
    assert (verdict.findings, verdict.erased) == ([], 5)

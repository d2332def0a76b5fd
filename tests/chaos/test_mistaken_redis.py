"""Two processes of the API with one database, one of them over the wrong Redis; and a Redis that is truly
lost while the API over it goes on.
"""

import asyncio
import os
import shutil
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path

from app.ledger.connection import connect
from persistence import api_keys, served
from persistence.birth import give_birth
from persistence.fences import fences
from persistence.pool import open_pool
from tests.chaos.scenes import until
from tests.chaos.test_between_forgotten import SHARDS
from tests.chaos.test_between_forgotten import served as served_api
from tests.http.conftest import ALL

BALANCE = "/api/credits/balance?accountId=ana"
GRANT = {"accountId": "ana", "amount": 1}
LOOKED_AT = "SELECT looked_at FROM intruders"


async def granted(client) -> None:
    """Asks until it is done."""

    async def is_done() -> bool:
        return (await client.post("/api/credits/grant", json=GRANT)).status_code == 201

    await until(is_done)


async def seen(database) -> None:
    """Until somebody has said that the right Redis is alive, and it can be gone from now on."""

    async def is_seen() -> bool:
        return bool(await database.fetchval("SELECT count(*) FROM served_servers"))

    await until(is_seen)


async def looked_at(database) -> None:
    """Until the wrong one has asked."""

    async def is_looked_at() -> bool:
        return bool(await database.fetchval("SELECT count(*) FROM intruders"))

    await until(is_looked_at)


@asynccontextmanager
async def spending(client):
    """A customer who asks all the time; yields what was answered."""
    answers: list[int] = []
    over = asyncio.Event()

    async def ask() -> None:
        while not over.is_set():
            answers.append((await client.post("/api/credits/grant", json=GRANT)).status_code)
            await asyncio.sleep(0.01)

    asking = asyncio.create_task(ask())
    yield answers
    over.set()
    await asking


async def answered(answers: list[int], more: int) -> None:
    """Until the customer has been answered so many times more."""
    enough = len(answers) + more

    async def is_enough() -> bool:
        return len(answers) >= enough

    await until(is_enough)


async def lastro(redis_url: str, database_url: str, *arguments: str) -> tuple[int, str]:
    urls = {"LASTRO_REDIS_URL": redis_url, "LASTRO_DATABASE_URL": database_url}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "app.cli", *arguments,
        env={**os.environ, **urls, "LASTRO_SHARDS": str(SHARDS), "PYTHONPATH": str(Path.cwd())},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


async def test_the_one_over_an_empty_redis_is_refused_and_the_right_one_never_notices(
    database, database_url, redis_url, own_valkey
):
    """Nor does it when somebody runs commands with the wrong address."""
    await give_birth(database_url, redis_url, SHARDS)
    token = await api_keys.create(database, "all", ALL)
    async with served_api(redis_url, database_url, token) as right:
        await granted(right)
        await seen(database)
        async with spending(right) as answers, served_api(own_valkey.url, database_url, token) as wrong:
            for _ in range(10):
                for refused in (await wrong.get(BALANCE), await wrong.post("/api/credits/grant", json=GRANT)):
                    assert refused.status_code == 503
                assert refused.json()["code"] == "ledger_fenced"
                assert "Another Redis is being served" in refused.text
                assert "LASTRO_REDIS_URL" in refused.text
                await answered(answers, 5)
            code, said = await lastro(own_valkey.url, database_url, "restore", "--yes")
            assert (code, "Another Redis is being served" in said) == (2, True), said
            code, said = await lastro(
                own_valkey.url, database_url, "unfence", "--reason", "a mistake", "--yes"
            )
            assert "nothing was fenced" in said
        assert set(answers) == {201}
    assert await fences(database) == []
    async with connect(own_valkey.url) as redis:
        assert await redis.dbsize() == 0
        wrong_server = (await redis.info("replication"))["master_replid"]
    rows = await database.fetch("SELECT server FROM served_servers")
    assert (len(rows), wrong_server in {row["server"] for row in rows}) == (1, False)


async def test_a_redis_that_comes_back_empty_answers_nothing_and_is_fenced_within_seconds(
    database, database_url, own_valkey, tmp_path
):
    """At its old address, under the feet of those who use it, and nobody asks."""
    await give_birth(database_url, own_valkey.url, SHARDS)
    token = await api_keys.create(database, "all", ALL)
    async with served_api(own_valkey.url, database_url, token) as client:
        await granted(client)
        await seen(database)
        own_valkey.kill()
        shutil.rmtree(own_valkey.folder())
        own_valkey.start()
        began = time.monotonic()
        answers = {(await client.get(BALANCE)).status_code for _ in range(20)}

        async def is_fenced() -> bool:
            return len(await fences(database)) == SHARDS

        await until(is_fenced)
        assert time.monotonic() - began < served.SEEN_SECONDS + 3
        assert answers | {(await client.get(BALANCE)).status_code} == {503}
        code, said = await lastro(
            own_valkey.url, database_url, "restore", "--yes", "--salvage", str(tmp_path / "kept")
        )
        assert code == 0, said
        await granted(client)


async def test_an_outage_of_postgresql_does_not_make_the_wrong_one_the_judge(
    own_postgres, redis_url, own_valkey, monkeypatch
):
    """Nobody can say for a while that the right one is alive."""
    monkeypatch.setattr(served, "SEEN_SECONDS", 2.5)
    monkeypatch.setattr(served, "GAP_SECONDS", 2.0)
    url = own_postgres.url
    await give_birth(url, redis_url, SHARDS)
    async with await open_pool(url) as database:
        token = await api_keys.create(database, "all", ALL)
        async with served_api(redis_url, url, token) as right:
            await granted(right)
            await seen(database)
            async with served_api(own_valkey.url, url, token):
                await looked_at(database)
                await asyncio.to_thread(own_postgres.stop)
                away = time.monotonic()
                while time.monotonic() - away < served.SEEN_SECONDS:
                    await granted(right)
                own_postgres.start()
                before = await database.fetchval(LOOKED_AT)

                async def is_looked_at_again() -> bool:
                    return (await database.fetchval(LOOKED_AT) - before).total_seconds() > 2

                await until(is_looked_at_again)
                assert await fences(database) == []
                await granted(right)


async def test_processes_that_begin_at_once_do_not_hurt_each_other(
    database, database_url, redis_url, own_valkey
):
    """After a stop of everything: what was seen last is long ago, and the wrong one may be the first."""
    await give_birth(database_url, redis_url, SHARDS)
    token = await api_keys.create(database, "all", ALL)
    async with served_api(redis_url, database_url, token) as right:
        await granted(right)
        await seen(database)
    for _ in range(3):
        await database.execute("UPDATE served_servers SET seen_at = seen_at - interval '1 day'")
        await database.execute("DELETE FROM intruders")
        async with served_api(own_valkey.url, database_url, token):
            await looked_at(database)
            async with served_api(redis_url, database_url, token) as right:
                await granted(right)
        assert await fences(database) == []

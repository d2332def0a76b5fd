"""What Redis has forgotten the journal answers, byte for byte as Redis did; or nobody does."""

import asyncio
import contextlib

import asyncpg
import httpx
import pytest

from app.ledger import keys
from app.ledger.stream import Keep
from app.settings import Settings
from persistence import api_keys
from persistence.birth import give_birth
from persistence.drain import drain
from tests.http.conftest import ALL, running
from tests.http.serving import create_app

SHARDS = 2
NASTY = 'żółć \x7f \\ " / </script> \u2028 😀 %s {0}'


@contextlib.asynccontextmanager
async def served(redis_url: str, database_url: str, token: str):
    """The API in this process, and a client of it."""
    app = create_app(Settings(redis_url=redis_url, database_url=database_url, shards=SHARDS))
    async with (
        running(app),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app, raise_app_exceptions=False),
            base_url="http://lastro.test",
            headers={"authorization": f"Bearer {token}"},
        ) as client,
    ):
        yield client


@pytest.fixture
async def client(database, database_url, redis_url):
    await give_birth(database_url, redis_url, SHARDS)
    async with served(redis_url, database_url, await api_keys.create(database, "all", ALL)) as client:
        yield client


async def forget(redis, database_url: str, redis_url: str) -> None:
    """Journal everything, then let Redis forget all that it may ever forget, keys of callers too."""
    drained = await drain(database_url, redis_url, 0.5, keep=Keep(0, 0))
    assert drained.condemned == []
    async for key in redis.scan_iter(count=1000):
        if b":reservation:" in key or b":task:" in key:
            await redis.delete(key)
    for shard in range(SHARDS):
        await redis.xtrim(keys.journal(shard), 0, approximate=False)


class Asker:
    """An answer is its status, its body, and what the headers say about a replay."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client

    async def ask(self, method: str, path: str, body: dict | None = None, key: str | None = None):
        headers = {"idempotency-key": key} if key else {}
        answer = await self.client.request(method, f"/api/{path}", json=body, headers=headers)
        names = ("idempotency-replayed", "lastro-conflict")
        return answer.status_code, answer.json(), [answer.headers.get(name) for name in names]

    async def post(self, path: str, key: str | None = None, **body):
        return await self.ask("POST", f"credits/{path}", body, key)

    async def bind(self, reservation: str, **body):
        return await self.ask("PUT", f"credits/reservations/{reservation}/task", body)


async def shop(asker: Asker) -> dict[str, str]:
    """Reservations of every ending, by a name."""
    for account in ("ana", "bea"):
        await asker.post("grant", accountId=account, amount=1000, key=f"g-{account}", reason=NASTY)
        await asker.post("deduct", accountId=account, amount=1, key="d", modelId="m/1", metadata={"a": NASTY})
    made = {}
    for name, more in {
        "plain": {},
        "full": {"taskId": "t-1 / ?", "provider": "fal", "resourceId": "r:1",
                 "modelId": "video/x", "metadata": {NASTY: NASTY}, "reason": NASTY},
        "late-task": {"modelId": "m"},
        "cancelled": {"metadata": {}},
        "failed": {"taskId": "t-2"},
        "expired": {"ttlSeconds": 1, "resourceId": "r2"},
    }.items():  # fmt: skip
        status, answer, _ = await asker.post("reserve", accountId="ana", amount=10, key=f"r-{name}", **more)
        assert status == 201, answer
        made[name] = answer["reservation"]["id"]
    await asker.bind(made["late-task"], taskId="t-3", provider="kling", resourceId="r3")
    await asker.post("confirm", reservationId=made["plain"], key="c")
    await asker.post("confirm", taskId="t-1 / ?", provider="fal", amount=4, modelId="other")
    await asker.post("confirm", reservationId=made["late-task"])
    await asker.post("cancel", reservationId=made["cancelled"], reason=NASTY, key="x")
    await asker.post("cancel", taskId="t-2", cause="failed")
    async with asyncio.timeout(5):
        path = f"credits/reservations/{made['expired']}"
        while (await asker.ask("GET", path))[1]["status"] == "pending":
            await asker.client.get("/health/ready")
    return made


async def everything(asker: Asker, made: dict[str, str]) -> dict[str, object]:
    """All that may be asked about what has ended; nothing of it moves a credit."""
    answers: dict[str, object] = {}
    for name, reservation in made.items():
        answers[f"find {name}"] = await asker.ask("GET", f"credits/reservations/{reservation}")
        for verb in ("confirm", "cancel"):
            answers[f"{verb} {name}"] = await asker.post(verb, reservationId=reservation)
            answers[f"{verb} {name} of bea"] = await asker.post(
                verb, reservationId=reservation, accountId="bea"
            )
            answers[f"{verb} {name} of ana"] = await asker.post(
                verb, reservationId=reservation, accountId="ana"
            )
        answers[f"confirm {name} otherwise"] = await asker.post(
            "confirm", reservationId=reservation, amount=3
        )
    for name, body in {
        "t-1": {"taskId": "t-1 / ?", "provider": "fal"},
        "t-1 nobody's": {"taskId": "t-1 / ?"},
        "t-2": {"taskId": "t-2"},
        "t-3": {"taskId": "t-3", "provider": "kling"},
    }.items():
        answers[f"confirm {name}"] = await asker.post("confirm", **body)
        answers[f"cancel {name}"] = await asker.post("cancel", **body)
        query = "&".join(f"{name}={value}" for name, value in body.items())
        answers[f"task {name}"] = await asker.ask("GET", f"images/by-task-id?{query}")
    answers["bind again"] = await asker.bind(
        made["late-task"], taskId="t-3", provider="kling", resourceId="r3"
    )
    answers["bind without resource"] = await asker.bind(made["late-task"], taskId="t-3", provider="kling")
    answers["bind other resource"] = await asker.bind(
        made["late-task"], taskId="t-3", provider="kling", resourceId="r4"
    )
    answers["bind other task"] = await asker.bind(made["late-task"], taskId="t-4", provider="kling")
    answers["bind full again"] = await asker.bind(
        made["full"], taskId="t-1 / ?", provider="fal", resourceId="r:1"
    )
    answers["key c"] = await asker.post("confirm", reservationId=made["plain"], key="c")
    answers["key x"] = await asker.post("cancel", reservationId=made["cancelled"], reason=NASTY, key="x")
    answers["key c reused"] = await asker.post("confirm", reservationId=made["plain"], amount=1, key="c")
    answers["key d"] = await asker.post(
        "deduct", accountId="ana", amount=1, key="d", modelId="m/1", metadata={"a": NASTY}
    )
    answers["key d of bea"] = await asker.post(
        "deduct", accountId="bea", amount=1, key="d", modelId="m/1", metadata={"a": NASTY}
    )
    answers["key g"] = await asker.post("grant", accountId="ana", amount=1000, key="g-ana", reason=NASTY)
    answers["key r"] = await asker.post("reserve", accountId="ana", amount=10, key="r-failed", taskId="t-2")
    answers["key r mismatch"] = await asker.post("reserve", accountId="ana", amount=11, key="r-failed")
    return answers


async def test_the_journal_answers_what_redis_has_forgotten_exactly_as_redis_did(
    client, redis, redis_url, database_url
):
    asker = Asker(client)
    made = await shop(asker)
    remembered = await everything(asker, made)
    await forget(redis, database_url, redis_url)
    forgotten = await everything(asker, made)
    assert {name: answer for name, answer in forgotten.items() if answer != remembered[name]} == {
        name: remembered[name] for name, answer in forgotten.items() if answer != remembered[name]
    }


async def test_what_only_the_journal_knows_is_503_while_it_is_away_and_never_404(
    redis, redis_url, own_postgres
):
    database_url = own_postgres.url
    await give_birth(database_url, redis_url, SHARDS)
    async with asyncpg.create_pool(database_url, min_size=0) as database:
        token = await api_keys.create(database, "all", ALL)
    async with served(redis_url, database_url, token) as client:
        asker = Asker(client)
        made = await shop(asker)
        remembered = await everything(asker, made)
        await forget(redis, database_url, redis_url)
        own_postgres.kill()
        away = await everything(asker, made)
        strange = await asker.ask("GET", "credits/reservations/01890a5d-ac96-7000-8000-000000000000")
        nobody = await asker.post("deduct", accountId="nobody", amount=1)
        own_postgres.start()
        assert {"key r mismatch", "key c reused"} == {
            name for name, answer in away.items() if answer[1].get("code") != "ledger_unavailable"
        }
        assert [503, 503] == [strange[0], nobody[0]]
        assert {answer[0] for name, answer in away.items() if "key" not in name} == {503}
        assert await everything(asker, made) == remembered


async def test_what_is_missing_in_redis_and_open_in_the_journal_is_fenced_and_never_404(
    client, redis, redis_url, database_url
):
    asker = Asker(client)
    await asker.post("grant", accountId="ana", amount=100)
    held = (await asker.post("reserve", accountId="ana", amount=10))[1]["reservation"]["id"]
    await drain(database_url, redis_url, 0.5, keep=None)
    for pattern in (b":reservation:", b":account:"):
        async for key in redis.scan_iter(count=1000):
            if pattern in key:
                await redis.delete(key)
        asked = [
            await asker.ask("GET", f"credits/reservations/{held}"),
            await asker.post("confirm", reservationId=held),
            await asker.post("cancel", reservationId=held),
            await asker.bind(held, taskId="t"),
        ]
        if pattern == b":account:":
            asked += [
                await asker.post("grant", accountId="ana", amount=100),
                await asker.post("deduct", accountId="ana", amount=100),
                await asker.post("reserve", accountId="ana", amount=100),
                await asker.ask("GET", "credits/balance?accountId=ana"),
            ]
        assert [(each[0], each[1]["code"]) for each in asked] == [(503, "ledger_fenced")] * len(asked)


async def test_a_reservation_whose_account_is_missing_is_fenced_also_while_the_journal_lags(client, redis):
    asker = Asker(client)
    await asker.post("grant", accountId="ana", amount=100)
    held = (await asker.post("reserve", accountId="ana", amount=10))[1]["reservation"]["id"]
    async for key in redis.scan_iter(match="*account:ana"):
        await redis.delete(key)
    for answer in (
        await asker.post("confirm", reservationId=held),
        await asker.post("cancel", reservationId=held, key="k"),
        await asker.bind(held, taskId="t"),
    ):
        assert (answer[0], answer[1]["code"]) == (503, "ledger_fenced")

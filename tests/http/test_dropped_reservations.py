"""What is asked about reservations that clean-up has dropped is answered as if they were there."""

import pytest

from app.settings import Settings
from persistence.inbox.retrying import retry_slice
from tests.http.doors import FAILED, SUCCEEDED, inbox, reserved, told, url, with_doors
from tests.http.steps import CREDITS, do, is_refused, sums
from tests.http.test_replays_of_the_past import TASK, asked, forget, is_replayed, key
from tests.integration.cleaning.dropped import drop_all
from tests.integration.ledgers import journal_all

__all__ = ["asked"]


@pytest.fixture
async def settings(settings: Settings) -> Settings:
    return with_doors(settings)


@pytest.fixture
def dropped(database, redis, settings):
    """All that ended is journaled, forgotten by Redis and dropped."""

    async def done() -> None:
        await journal_all(settings.database_url, settings.redis_url)
        await forget(redis)
        await drop_all(database)

    return done


async def test_every_request_is_answered_as_the_first_time_under_its_key(client, asked, dropped):
    async def again(number: int, method: str, path: str, body: dict):
        headers = {"idempotency-key": key(number)}
        return await client.request(method, f"{CREDITS}/{path}", json=body, headers=headers)

    before = (await client.get(f"{CREDITS}/balance", params={"accountId": "alice"})).text
    await dropped()
    await is_replayed(asked, again)
    assert before == (await client.get(f"{CREDITS}/balance", params={"accountId": "alice"})).text


async def test_an_ending_is_answered_as_the_first_time_without_a_key(client, asked, dropped):
    async def again(_: int, method: str, path: str, body: dict):
        return await client.request(method, f"{CREDITS}/{path}", json=body)

    endings = [each for each in asked if each[1] in {"cancel", "confirm"} and "final" not in each[2]]
    assert 3 == len(endings)
    await dropped()
    await is_replayed(endings, again)


async def test_a_reservation_reads_the_same_by_its_id_and_by_its_task(client, asked, dropped):
    async def read() -> list[str]:
        ids = [each[3].json()["reservation"]["id"] for each in asked if each[1] == "reserve"]
        answers = [await client.get(f"{CREDITS}/reservations/{each}") for each in ids]
        tasks = [{"taskId": TASK, "provider": "fal"}, {"taskId": "u", "provider": "fal"}]
        answers += [await client.get("/api/images/by-task-id", params=each) for each in tasks]
        answers += [
            await client.get(f"{CREDITS}/transactions", params={"reservationId": each}) for each in ids
        ]
        answers.append(await client.get(f"{CREDITS}/transactions", params={"taskId": TASK}))
        assert {200} == {each.status_code for each in answers}
        return [each.text for each in answers]

    seen = await read()
    await dropped()
    assert seen == await read()
    listed = (await client.get(f"{CREDITS}/reservations", params={"accountId": "alice"})).json()["data"]
    assert [] == listed


async def test_the_loser_of_a_race_is_told_for_ever_which_ending_won(client, dropped):
    await do(client, "grant", accountId="alice", amount=100)
    confirmed, cancelled = [
        (await do(client, "reserve", accountId="alice", amount=5, taskId=task))["reservation"]["id"]
        for task in ("a", "b")
    ]
    await do(client, "confirm", reservationId=confirmed)
    await do(client, "cancel", reservationId=cancelled, reason="no face")
    await dropped()
    for named, code in (
        ({"reservationId": confirmed}, "reservation_confirmed"),
        ({"taskId": "a"}, "reservation_confirmed"),
        ({"reservationId": cancelled}, "reservation_cancelled"),
        ({"taskId": "b"}, "reservation_cancelled"),
    ):
        verb = "cancel" if code == "reservation_confirmed" else "confirm"
        await is_refused(client, verb, 409, code, **named)
        await is_refused(client, "extend", 409, code, **named, ttlSeconds=60)
    await is_refused(client, "confirm", 404, "reservation_not_found", taskId="c")


async def test_what_a_reservation_has_spent_is_given_back_once_however_late(client, dropped):
    await do(client, "grant", accountId="alice", amount=100)
    made = (await do(client, "reserve", accountId="alice", amount=50))["reservation"]["id"]
    await do(client, "confirm", reservationId=made, amount=20, final=False, key="part")
    await do(client, "confirm", reservationId=made, amount=25)
    await dropped()
    await do(client, "refund", reservationId=made, amount=30)
    await dropped_again(dropped)
    await is_refused(client, "refund", 422, "exceeds_transaction", reservationId=made, amount=16)
    await do(client, "refund", reservationId=made)
    assert (100, 0) == (await sums(client))[:2]
    await is_refused(client, "refund", 422, "exceeds_transaction", reservationId=made)


async def dropped_again(dropped) -> None:
    with pytest.raises(AssertionError):  # there is nothing more to drop; Redis has forgotten all the same
        await dropped()


@pytest.mark.parametrize("by", ["task", "callback"])
async def test_a_callback_that_comes_after_its_reservation_was_dropped_is_heard(
    client, stranger, dropped, by
):
    made = (await reserved(client, taskId="t", provider="kling"))["reservation"]["id"]
    await do(client, "confirm", reservationId=made)
    before = await sums(client)
    await dropped()
    path = url("kling", made)
    assert "verified" == await told(stranger, "kling", SUCCEEDED["kling"]("t"), path=path, signed=False)
    assert "conflict" == await told(stranger, "kling", FAILED["kling"]("t"), path=path, signed=False)
    other = (await reserved(client, taskId="s", provider="sync"))["reservation"]["id"]
    await do(client, "confirm", reservationId=other)
    between = await sums(client)
    await dropped()
    assert "verified" == await told(stranger, "sync", SUCCEEDED["sync"]("s"))
    assert between == await sums(client)
    assert before[1] == between[1] == 0
    assert {made, other} == {row["reservationId"] for row in await inbox(client)}


async def test_a_callback_that_waited_finds_its_task_among_the_dropped(
    app, client, stranger, database, settings, dropped
):
    """As when the workers come back after the reservation has ended and was dropped."""
    body = SUCCEEDED["sync"]("t")
    assert "waiting" == await told(stranger, "sync", body)
    made = (await reserved(client, taskId="t", provider="sync"))["reservation"]["id"]
    await do(client, "confirm", reservationId=made)
    await dropped()
    parts = app.state.parts
    assert 1 == await retry_slice(database, parts.ledger, parts.receiving._rules, 5.0)
    assert [("verified", made)] == [(row["status"], row["reservationId"]) for row in await inbox(client)]

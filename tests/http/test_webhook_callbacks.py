"""Callback URLs: who is handed one, what it opens, and what it does not."""

import hashlib
import hmac
from datetime import UTC, datetime

import httpx
import pytest
import standardwebhooks

from app.settings import Settings
from app.webhooks.inbox import Received
from app.webhooks.settling import Settlement
from persistence.inbox.rows import OF_A_URL_MAX
from tests.http.conftest import running
from tests.http.doors import (
    MASTERS,
    PUBLIC,
    SUCCEEDED,
    deliver,
    inbox,
    reserved,
    told,
    url,
    with_doors,
)  # fmt: skip
from tests.http.people import settings_with_users, token
from tests.http.serving import create_app
from tests.http.steps import ask, batch, do, find, members, op, sums

NEW_MASTER = "a-third-master-secret-which-is-the-new-one"


@pytest.fixture
async def settings(settings: Settings) -> Settings:
    return with_doors(settings)


@pytest.mark.parametrize("provider", ["bfl", "generic"])
async def test_reserve_hands_out_a_url_and_a_secret(provider, client):
    made = await reserved(client, provider=provider)
    id_ = made["reservation"]["id"]
    secret = hmac.new(MASTERS[0].encode(), id_.encode(), hashlib.sha256).hexdigest()
    assert {"url": f"{PUBLIC}{url(provider, id_)}", "secret": secret} == made["callback"]


@pytest.mark.parametrize("provider", ["replicate", "fal", "kling", "sync", "heygen", "luma"])
async def test_the_others_sign_with_their_own_secrets_and_are_handed_a_url(provider, client):
    made = await reserved(client, provider=provider)
    assert {"url": f"{PUBLIC}{url(provider, made['reservation']['id'])}"} == made["callback"]


async def test_a_replay_hands_out_the_same_and_so_does_a_batch(client):
    await do(client, "grant", accountId="alice", amount=100)
    body = {"accountId": "alice", "amount": 1, "provider": "bfl"}
    first = await do(client, "reserve", key="k", **body)
    again = await ask(client, "reserve", key="k", **body)
    assert "true" == again.headers["idempotency-replayed"]
    assert first["callback"] == again.json()["callback"]
    (inside, refused) = await batch(client, op("reserve", **body), op("reserve", **body | {"amount": 10**6}))
    assert inside["callback"]["url"].startswith(f"{PUBLIC}/api/webhooks/bfl/{inside['reservation']['id']}/")
    assert "callback" not in refused


@pytest.mark.parametrize("more", [{}, {"provider": "other"}, {"provider": "stripe"}])
async def test_nothing_is_handed_out_without_a_provider_that_has_a_door(more, client):
    assert "callback" not in await reserved(client, **more)


async def test_what_was_handed_out_proves_its_bearer(client, stranger):
    made = await reserved(client, provider="generic")
    id_, secret = made["reservation"]["id"], made["callback"]["secret"]
    path = made["callback"]["url"].removeprefix(PUBLIC)
    body = {"reservationId": id_, "status": "succeeded"}
    assert "verified" == await told(stranger, "generic", body, path=path, secret=secret)
    assert "confirmed" == (await find(client, id_))["status"]


async def test_the_secret_of_generic_is_one_for_every_library_of_standard_webhooks(client, stranger):
    made = await reserved(client, provider="generic", taskId="t")
    raw = b'{"taskId": "t", "status": "succeeded"}'
    now = datetime.now(UTC)
    signature = standardwebhooks.Webhook(made["callback"]["secret"]).sign("m", now, raw.decode())
    headers = {
        "webhook-id": "m",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": signature,
    }
    path = made["callback"]["url"].removeprefix(PUBLIC)
    answer = await stranger.post(path, content=raw, headers=headers)
    assert (200, {"status": "verified"}) == (answer.status_code, answer.json())


async def test_the_secret_of_one_reservation_opens_no_other_and_not_the_common_door(client, stranger):
    one, other = [await reserved(client, provider="bfl", taskId=each) for each in ("t-1", "t-2")]
    secret = one["callback"]["secret"]
    body = SUCCEEDED["bfl"]("t-2")
    path = other["callback"]["url"].removeprefix(PUBLIC)
    assert 401 == (await deliver(stranger, "bfl", body, path=path, secret=secret)).status_code
    assert 401 == (await deliver(stranger, "bfl", body, secret=secret)).status_code
    assert "conflict" == await told(
        stranger, "bfl", body, path=one["callback"]["url"].removeprefix(PUBLIC), secret=secret
    )
    for each in (one, other):
        assert "pending" == (await find(client, each["reservation"]["id"]))["status"]


@pytest.mark.parametrize("provider", ["replicate", "fal", "bfl", "sync", "heygen", "generic"])
async def test_a_url_without_a_signature_proves_nothing_for_those_that_sign(provider, client, stranger):
    made = await reserved(client, provider=provider, taskId="t")
    path = url(provider, made["reservation"]["id"])
    answer = await deliver(stranger, provider, SUCCEEDED[provider]("t"), path=path, signed=False)
    assert (401, "unauthenticated") == (answer.status_code, answer.json()["code"])
    assert "verified" == await told(stranger, provider, SUCCEEDED[provider]("t"), path=path)


async def test_the_url_of_one_that_signs_opens_nothing_of_one_that_does_not(client, stranger):
    made = await reserved(client, provider="replicate", taskId="t")
    path = made["callback"]["url"].removeprefix(PUBLIC).replace("/replicate/", "/luma/")
    answer = await deliver(stranger, "luma", SUCCEEDED["luma"]("t"), path=path, signed=False)
    assert 401 == answer.status_code
    assert "pending" == (await find(client, made["reservation"]["id"]))["status"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path[:-1] + ("0" if path[-1] != "0" else "1"),
        lambda path: path[:-64] + "x",
        lambda path: path[:-64] + "ü",
        lambda path: path.replace(path.split("/")[4], "00000000-0000-7000-8000-000000000000"),
        lambda path: path.replace(path.split("/")[4], "not-an-id"),
        lambda path: path.replace(path.split("/")[4], path.split("/")[4] + "%0a"),
    ],
)
async def test_a_wrong_token_is_refused_before_anything_is_read(spoil, client, stranger):
    made = await reserved(client, provider="luma", taskId="t")
    path = spoil(url("luma", made["reservation"]["id"]))
    answer = await deliver(stranger, "luma", b"{" * 2_000_000, path=path, signed=False)
    assert (401, "unauthenticated") == (answer.status_code, answer.json()["code"])


async def test_an_id_in_capitals_is_the_same(client, stranger):
    made = await reserved(client, provider="luma", taskId="t")
    id_ = made["reservation"]["id"]
    path = url("luma", id_).replace(id_, id_.upper())
    assert "verified" == await told(stranger, "luma", SUCCEEDED["luma"]("t"), path=path, signed=False)


async def test_a_token_of_another_master_on_the_list_opens_too(client, stranger):
    made = await reserved(client, provider="luma", taskId="t")
    path = url("luma", made["reservation"]["id"], MASTERS[1])
    assert "verified" == await told(stranger, "luma", SUCCEEDED["luma"]("t"), path=path, signed=False)
    path = url("luma", made["reservation"]["id"], NEW_MASTER)
    answer = await deliver(stranger, "luma", SUCCEEDED["luma"]("t"), path=path, signed=False)
    assert 401 == answer.status_code


async def test_a_payload_of_another_reservation_is_a_conflict_and_nothing_moves(client, stranger):
    one, other = [await reserved(client, provider="generic", taskId=each) for each in ("t-1", "t-2")]
    path = url("generic", one["reservation"]["id"])
    named = {"reservationId": other["reservation"]["id"], "status": "succeeded"}
    assert "conflict" == await told(stranger, "generic", named, path=path)
    assert "conflict" == await told(stranger, "generic", SUCCEEDED["generic"]("t-2"), path=path)
    assert (100, 100) == (await sums(client))[:2]
    whys = [row["why"] for row in await inbox(client, status="conflict")]
    assert all(other["reservation"]["id"] in why for why in whys), whys
    assert "verified" == await told(stranger, "generic", SUCCEEDED["generic"]("t-1"), path=path)


async def test_a_path_settles_a_task_that_nobody_has_bound(client, stranger):
    made = await reserved(client, provider="luma")
    path = url("luma", made["reservation"]["id"])
    assert "verified" == await told(
        stranger, "luma", SUCCEEDED["luma"]("unheard-of"), path=path, signed=False
    )
    assert "confirmed" == (await find(client, made["reservation"]["id"]))["status"]


async def test_a_forged_name_at_one_url_does_not_swallow_what_comes_to_another(client, stranger):
    """A worker that claims another's task first: the other's own ending is not its duplicate."""
    one, other = [await reserved(client, provider="generic") for _ in range(2)]
    body = SUCCEEDED["generic"]("claimed")
    paths = [each["callback"]["url"].removeprefix(PUBLIC) for each in (one, other)]
    secrets = [each["callback"]["secret"] for each in (one, other)]
    assert "verified" == await told(stranger, "generic", body, path=paths[0], secret=secrets[0])
    assert "verified" == await told(stranger, "generic", body, path=paths[1], secret=secrets[1])
    assert "confirmed" == (await find(client, other["reservation"]["id"]))["status"]


async def test_the_shops_own_name_for_the_work_is_not_taken_for_a_reservation(client, stranger):
    made = await reserved(client, provider="kling", taskId="t")
    foreign = "0190a000-0000-7000-8000-00000000abcd"
    body = SUCCEEDED["kling"]("t") | {"external_id": foreign}
    path = url("kling", made["reservation"]["id"])
    assert "verified" == await told(stranger, "kling", body, path=path, signed=False)
    heygen = await reserved(client, provider="heygen", taskId="v")
    body = SUCCEEDED["heygen"]("v")
    body["event_data"]["callback_id"] = foreign
    assert "verified" == await told(stranger, "heygen", body)
    assert "confirmed" == (await find(client, heygen["reservation"]["id"]))["status"]


async def test_our_id_in_the_payload_is_enough(client, stranger):
    made = await reserved(client, provider="heygen")
    body = SUCCEEDED["heygen"]("v")
    body["event_data"]["callback_id"] = made["reservation"]["id"]
    assert "verified" == await told(stranger, "heygen", body)
    assert ("confirmed", 50) == members(await find(client, made["reservation"]["id"]), "status", "captured")


async def test_our_id_in_the_payload_of_another_provider_is_a_conflict_and_nothing_moves(client, stranger):
    """Who lets people name their own videos lets nobody end the work of others."""
    made = await reserved(client, provider="replicate", taskId="t")
    body = SUCCEEDED["heygen"]("v")
    body["event_data"]["callback_id"] = made["reservation"]["id"]
    assert "conflict" == await told(stranger, "heygen", body)
    (row,) = await inbox(client, status="conflict")
    assert f"{made['reservation']['id']} is done by replicate" == row["why"]
    assert "pending" == (await find(client, made["reservation"]["id"]))["status"]
    assert "verified" == await told(stranger, "replicate", SUCCEEDED["replicate"]("t"))


async def test_a_callback_url_that_was_leaked_fills_no_inbox(app, client, stranger):
    made = await reserved(client, provider="luma")
    path = url("luma", made["reservation"]["id"])

    async def told_of(task: str) -> httpx.Response:
        return await deliver(stranger, "luma", SUCCEEDED["luma"](task), path=path, signed=False)

    statuses = [(await told_of(f"t-{number}")).status_code for number in range(OF_A_URL_MAX + 3)]
    assert [200] * OF_A_URL_MAX + [400] * 3 == statuses
    assert "duplicate" == (await told_of("t-0")).json()["status"]
    await app.state.parts.receiving.inbox.write_rejected_now()
    assert OF_A_URL_MAX == len(await inbox(client, status="verified"))
    (row,) = await inbox(client, status="rejected")
    assert ("luma", 3) == (row["provider"], row["deliveries"])
    other = await reserved(client, provider="luma")
    path = url("luma", other["reservation"]["id"])
    assert 200 == (await told_of("t-99")).status_code


async def test_what_was_done_at_such_a_url_while_postgresql_was_away_holds_up_nothing(app, client, stranger):
    made = await reserved(client, provider="luma")
    path, receiving = url("luma", made["reservation"]["id"]), app.state.parts.receiving
    for number in range(OF_A_URL_MAX):
        await told(stranger, "luma", SUCCEEDED["luma"](f"t-{number}"), path=path, signed=False)
    for of, task in ((made["reservation"]["id"], "one more"), ("", "another")):
        received = Received(
            provider="luma", path=of, named=task, outcome="succeeded", word="completed", payload="{}"
        )
        receiving._later.append((None, received, Settlement(status="verified")))
    await receiving.write_now()
    assert not receiving._later
    assert [OF_A_URL_MAX, 1] == [
        len([row for row in await inbox(client) if ("reservationId" in row) is bound])
        for bound in (True, False)
    ]


async def test_users_are_never_shown_a_callback(app, client, settings, database):
    """Who has the URL can say that the job has failed, and has the work for nothing."""
    await do(client, "grant", accountId="alice", amount=100)
    application = create_app(settings_with_users(settings))
    async with running(application):
        user = httpx.AsyncClient(
            transport=httpx.ASGITransport(application, raise_app_exceptions=False),
            base_url="http://lastro.test",
            headers={"authorization": f"Bearer {token('alice')}"},
        )
        body = {"accountId": "alice", "amount": 1, "provider": "bfl"}
        for _ in range(2):
            assert "callback" not in await do(user, "reserve", key="k", **body)
        (inside,) = await batch(user, op("reserve", **body))
        assert (201, False) == (inside["status"], "callback" in inside)

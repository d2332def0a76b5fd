"""The inbox over HTTP: who may look, page by page, what is shown, and what cannot be acted on again."""

import pytest

from app.settings import Settings
from persistence.inbox.retrying import retry_slice
from tests.http.doors import FAILED, SUCCEEDED, deliver, inbox, reserved, told, with_doors
from tests.http.steps import members

INBOX = "/api/credits/webhooks"


@pytest.fixture
async def settings(settings: Settings) -> Settings:
    return with_doors(settings)


async def test_operators_of_everything_look_and_nobody_else(client, stranger, client_of):
    await reserved(client, provider="sync", taskId="t")
    await told(stranger, "sync", SUCCEEDED["sync"]("t"))
    (row,) = await inbox(client)
    paths = [("GET", INBOX), ("GET", f"{INBOX}/{row['id']}"), ("POST", f"{INBOX}/{row['id']}/replay")]
    spends, of_alice = await client_of("spend", "grant"), await client_of("operate", account="alice")
    for method, path in paths:
        assert 401 == (await stranger.request(method, path)).status_code
        assert 403 == (await spends.request(method, path)).status_code
        assert 403 == (await of_alice.request(method, path)).status_code
        assert 200 == (await client.request(method, path)).status_code


async def test_pages_are_newest_first_and_filters_hold_together(client, stranger):
    made = {}
    for task in ("a", "b", "c"):
        made[task] = await reserved(client, provider="sync", taskId=task)
        await told(stranger, "sync", (FAILED if task == "b" else SUCCEEDED)["sync"](task))
    await told(stranger, "generic", SUCCEEDED["generic"]("nobody's"))
    first = (await client.get(INBOX, params={"limit": "2"})).json()
    assert (["nobody's", "c"], True) == ([row["taskId"] for row in first["data"]], first["hasMore"])
    rest = (await client.get(INBOX, params={"limit": "2", "cursor": first["nextCursor"]})).json()
    assert (["b", "a"], False, None) == (
        [row["taskId"] for row in rest["data"]], rest["hasMore"], rest["nextCursor"],
    )  # fmt: skip

    async def tasks(**query: str) -> list[str]:
        return [row["taskId"] for row in await inbox(client, **query)]

    assert ["nobody's"] == await tasks(status="waiting")
    assert ["nobody's"] == await tasks(provider="generic")
    assert ["c", "b", "a"] == await tasks(status="verified")
    assert ["b"] == await tasks(reservationId=made["b"]["reservation"]["id"].upper())
    assert ["a"] == await tasks(taskId="a", provider="sync")
    assert [] == await tasks(taskId="a", provider="generic")
    for query in ({"status": "fine"}, {"limit": "201"}, {"surprise": "1"}):
        assert 400 == (await client.get(INBOX, params=query)).status_code
    other = {"cursor": first["nextCursor"], "status": "waiting"}
    assert "invalid_cursor" == (await client.get(INBOX, params=other)).json()["code"]


async def test_one_shows_what_the_provider_sent(client, stranger):
    await reserved(client, provider="generic", taskId="t", resourceId="image-1")
    raw = b'{"taskId": "t", "status": "succeeded", "exact": 0.10000000000000000001, "deep": {"a": [null]}}'
    assert 200 == (await deliver(stranger, "generic", raw)).status_code
    (row,) = await inbox(client)
    assert "payload" not in row
    answer = await client.get(f"{INBOX}/{row['id']}")
    assert b"0.10000000000000000001" in answer.content
    shown = answer.json()
    assert ("image-1", "succeeded", {"a": [None]}) == (
        shown["resourceId"], shown["providerStatus"], shown["payload"]["deep"],
    )  # fmt: skip


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_what_is_not_there_is_told_so(method, client):
    tail = "/replay" if method == "POST" else ""
    assert (404, "not_found") == members(
        (await client.request(method, f"{INBOX}/999999{tail}")).json(), "status", "code"
    )
    for wrong in ("x", "0", "-1", "1" * 19):
        assert 400 == (await client.request(method, f"{INBOX}/{wrong}{tail}")).status_code


async def test_payloads_go_after_thirty_days_and_so_do_rows_that_nobody_asks_for(
    app, client, stranger, database
):
    await reserved(client, provider="sync", taskId="t")
    await told(stranger, "sync", FAILED["sync"]("t"))
    await told(stranger, "sync", SUCCEEDED["sync"]("nobody's"))
    receiving = app.state.parts.receiving
    await deliver(stranger, "sync", b"{}", secret="wrong")
    await receiving.inbox.write_rejected_now()
    (rejected,) = await inbox(client, status="rejected")
    answer = await client.post(f"{INBOX}/{rejected['id']}/replay")
    assert (400, "invalid_request") == members(answer.json(), "status", "code")

    async def age(days: int) -> None:
        await database.execute(
            "UPDATE webhook_inbox SET received_at = now() - make_interval(days => $1),"
            " last_at = now() - make_interval(days => $1)",
            days,
        )
        await retry_slice(database, app.state.parts.ledger, receiving._rules, 5.0)

    await age(29)
    assert {"verified", "unknown", "rejected"} == {row["status"] for row in await inbox(client)}
    (row,) = await inbox(client, status="verified")
    assert "payload" in (await client.get(f"{INBOX}/{row['id']}")).json()
    await age(31)
    (row,) = await inbox(client)
    shown = (await client.get(f"{INBOX}/{row['id']}")).json()
    assert ("verified", None, None) == members(shown, "status", "payload", "reason")
    answer = await client.post(f"{INBOX}/{row['id']}/replay")
    assert (400, "invalid_request") == members(answer.json(), "status", "code")
    assert "duplicate" == await told(stranger, "sync", FAILED["sync"]("t"))

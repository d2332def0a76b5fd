"""Who is told, and what was told, over HTTP."""

import asyncio
from uuid import uuid4

from app.events import ENDPOINTS_MAX, ProviderFinished
from persistence.events import Outbox
from tests.http.steps import CREDITS, members

HOOK = "https://shop.example/hooks/lastro"
ENDPOINTS = f"{CREDITS}/events/endpoints"
FINISHED = ProviderFinished(
    provider="fal", reservation_id="r", account_id="alice", outcome="succeeded", payload={"images": [1]}
)


async def made(client, **body) -> dict:
    answer = await client.post(ENDPOINTS, json={"url": HOOK} | body)
    assert 201 == answer.status_code, answer.text
    return answer.json()


async def refused(client, body: dict, why: str) -> None:
    answer = await client.post(ENDPOINTS, json=body)
    assert (400, "invalid_request") == (answer.status_code, answer.json()["code"]), answer.text
    assert why in answer.json()["detail"]


async def log(client, **asked) -> list[dict]:
    answer = await client.get(f"{CREDITS}/events", params=asked)
    assert 200 == answer.status_code, answer.text
    return answer.json()["data"]


async def test_the_secret_of_an_endpoint_is_shown_once(client):
    first = await made(client, events=["balance.low"])
    second = await made(client)
    assert first["secret"].startswith("whsec_")
    assert first["secret"] != second["secret"]
    assert (HOOK, ["balance.low"], True, "key:all") == members(first, "url", "events", "enabled", "by")
    listed = (await client.get(ENDPOINTS)).json()["data"]
    assert [
        {name: value for name, value in each.items() if name != "secret"} for each in (first, second)
    ] == listed


async def test_an_endpoint_is_changed_turned_off_and_on_and_removed(client):
    path = f"{ENDPOINTS}/{(await made(client))['id']}"
    changed = await client.patch(path, json={"events": ["balance.low"], "enabled": False})
    assert (["balance.low"], False) == members(changed.json(), "events", "enabled")
    assert "turned it off" in changed.json()["whyOff"]
    again = await client.patch(path, json={"url": HOOK + "/2", "enabled": True})
    assert (HOOK + "/2", ["balance.low"], True, None) == members(
        again.json(), "url", "events", "enabled", "whyOff"
    )
    assert again.json() == (await client.delete(path)).json()
    assert [] == (await client.get(ENDPOINTS)).json()["data"]
    for answer in (await client.delete(path), await client.patch(path, json={})):
        assert (404, "not_found") == (answer.status_code, answer.json()["code"])
        assert "endpoint" in answer.json()["detail"]


WRONG_URLS = {
    "": "url",
    "shop.example/hook": "https://",
    "http://shop.example/": "https://",
    "ftp://shop.example/": "https://",
    "https://": "https://",
    "https:///x": "https://",
    "https://user:secret@shop.example/": "without a user",
    "https://shop.example/#x": "fragment",
    "https://shop.example:0/": "port",
    "https://shop.example:99999/": "port",
    "https://shop.example/ä": "ASCII",
    "https://shop.example/a b": "blanks",
    "https://shop.example/" + "x" * 2000: "url",
    "https://127.0.0.1/": "127.0.0.1 is no address of the public internet",
    "https://10.1.2.3/": "public internet",
    "https://192.168.0.1/": "public internet",
    "https://169.254.169.254/latest/meta-data": "public internet",
    "https://0.0.0.0/": "public internet",
    "https://100.64.0.1/": "public internet",
    "https://224.0.0.1/": "public internet",
    "https://[::1]/": "public internet",
    "https://[::]/": "public internet",
    "https://[::ffff:10.0.0.1]/": "public internet",
    "https://[64:ff9b::a00:1]/": "public internet",
    "https://[2002:a00:1::]/": "public internet",
    "https://[fd00:ec2::254]/": "public internet",
    "https://[fe80::1]/": "public internet",
}


async def test_a_url_that_nothing_may_be_sent_to_is_refused_and_says_why(client):
    for url, why in WRONG_URLS.items():
        await refused(client, {"url": url}, why)
    assert [] == (await client.get(ENDPOINTS)).json()["data"]


async def test_bodies_of_another_shape_are_refused(client):
    await refused(client, {}, "url")
    await refused(client, {"url": HOOK, "events": ["balance.high"]}, "events[0]")
    await refused(client, {"url": HOOK, "secret": "whsec_mine"}, "secret")
    await refused(client, {"url": 7}, "url")
    path = f"{ENDPOINTS}/{(await made(client))['id']}"
    for body in ({"enabled": "yes"}, {"url": None}, {"url": "https://127.0.0.1/"}):
        assert 400 == (await client.patch(path, json=body)).status_code, body
    for path in (f"{ENDPOINTS}/nonsense", f"{CREDITS}/events/nonsense/replay"):
        call = client.delete(path) if "endpoints" in path else client.post(path)
        assert 400 == (await call).status_code


async def test_there_are_so_many_endpoints_and_no_more_however_many_are_made_at_once(client):
    answers = await asyncio.gather(
        *(client.post(ENDPOINTS, json={"url": HOOK}) for _ in range(ENDPOINTS_MAX + 3))
    )
    assert ENDPOINTS_MAX == sum(each.status_code == 201 for each in answers)
    assert {"limit_reached"} == {each.json()["code"] for each in answers if each.status_code != 201}


async def test_the_log_has_pages_and_filters(client, database):
    everything, low = await made(client), await made(client, events=["balance.low"])
    for number in range(5):
        await Outbox.put(database, "provider.finished", f"a{number}", FINISHED)
    pages, cursor = [], None
    while True:
        asked = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = (await client.get(f"{CREDITS}/events", params=asked)).json()
        pages.append([each["accountId"] for each in page["data"]])
        cursor = page["nextCursor"]
        if not page["hasMore"]:
            break
    assert [["a4", "a3"], ["a2", "a1"], ["a0"]] == pages
    assert ["a3"] == [each["accountId"] for each in await log(client, accountId="a3")]
    assert 5 == len(await log(client, type="provider.finished", state="waiting", endpointId=everything["id"]))
    assert [] == await log(client, type="balance.low")
    assert [] == await log(client, endpointId=low["id"])
    assert [] == await log(client, state="dead")
    other = await client.get(f"{CREDITS}/events", params={"cursor": cursor or "x", "state": "dead"})
    assert "invalid_cursor" == other.json()["code"]
    for wrong in ({"type": "x"}, {"state": "x"}, {"endpointId": "x"}, {"limit": 0}, {"x": "y"}):
        assert 400 == (await client.get(f"{CREDITS}/events", params=wrong)).status_code, wrong


async def test_an_event_is_shown_with_what_was_sent_and_how_it_fares(client, database):
    endpoint = await made(client)
    await Outbox.put(database, "provider.finished", "alice", FINISHED)
    (event,) = await log(client)
    assert {"provider": "fal", "reservationId": "r", "accountId": "alice", "outcome": "succeeded",
            "payload": {"images": [1]}} == event["data"]  # fmt: skip
    (delivery,) = event["deliveries"]
    assert (endpoint["id"], "waiting", 0) == members(delivery, "endpointId", "state", "attempts")


async def test_a_replay_begins_anew_for_those_whom_it_was_meant_for_or_for_the_one_that_is_named(
    client, database
):
    first = await made(client)
    await Outbox.put(database, "provider.finished", "alice", FINISHED)
    (event,) = await log(client)
    second = await made(client)
    await database.execute(
        "UPDATE event_deliveries SET state = 'dead', attempts = 15, error = 'x', status = 500"
    )
    path = f"{CREDITS}/events/{event['id']}/replay"
    (delivery,) = (await client.post(path)).json()["deliveries"]
    assert (first["id"], "waiting", 0, None) == members(delivery, "endpointId", "state", "attempts", "error")
    replayed = (await client.post(path, json={"endpointId": second["id"]})).json()
    assert {first["id"], second["id"]} == {each["endpointId"] for each in replayed["deliveries"]}
    nobody = await client.post(path, json={"endpointId": str(uuid4())})
    nothing = await client.post(f"{CREDITS}/events/{uuid4()}/replay")
    for answer, what in ((nobody, "endpoint"), (nothing, "event")):
        assert (404, "not_found") == (answer.status_code, answer.json()["code"])
        assert what in answer.json()["detail"]


async def test_events_are_everybodys_and_so_not_for_keys_of_one_account(client, client_of):
    endpoint = await made(client)
    one = await client_of("operate", account="alice")
    asked = [
        ("GET", f"{CREDITS}/events", None),
        ("POST", f"{CREDITS}/events/{uuid4()}/replay", {}),
        ("GET", ENDPOINTS, None),
        ("POST", ENDPOINTS, {"url": HOOK}),
        ("PATCH", f"{ENDPOINTS}/{endpoint['id']}", {}),
        ("DELETE", f"{ENDPOINTS}/{endpoint['id']}", None),
    ]
    for method, path, body in asked:
        answer = await one.request(method, path, json=body)
        assert (403, "forbidden") == (answer.status_code, answer.json()["code"]), (method, path)

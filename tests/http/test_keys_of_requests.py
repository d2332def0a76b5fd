"""A request under a key, and the same again."""

from datetime import datetime

from tests.http.steps import grant


async def test_a_key_gives_the_same_answer_bare_or_quoted(client):
    await grant(client)
    ask = {"accountId": "alice", "amount": 1}
    first = await client.post("/api/credits/deduct", json=ask, headers={"idempotency-key": "job-1"})
    again = await client.post("/api/credits/deduct", json=ask, headers={"Idempotency-Key": '"job-1"'})
    assert (201, 201) == (first.status_code, again.status_code)
    assert first.json() == again.json()
    assert "true" == again.headers["idempotency-replayed"]


async def test_a_key_compares_what_was_asked_not_how_it_was_written(client):
    await grant(client)
    key = {"idempotency-key": "k"}
    written = [
        b'{"accountId":"alice","amount":1,"ttlSeconds":1800}',
        b' {"amount" : 1, "accountId":"al\\u0069ce"}\n',
    ]
    answers = [await client.post("/api/credits/reserve", content=each, headers=key) for each in written]
    assert answers[0].json() == answers[1].json()
    granted = [
        {"accountId": "alice", "amount": 1, "expiresAt": "2100-01-01T00:00:00Z"},
        {"accountId": "alice", "amount": 1, "expiresAt": "2100-01-01T02:00:00.000+02:00"},
    ]
    answers = [
        await client.post("/api/credits/grant", json=each, headers={"idempotency-key": "g"})
        for each in granted
    ]
    assert answers[0].json() == answers[1].json()


async def test_a_time_that_is_named_is_kept_although_the_model_has_another_one(client):
    await grant(client)
    await client.put("/api/credits/models", json={"modelId": "m", "base": 1, "price": 1, "ttlSeconds": 60})
    for named, key, seconds in ((None, "a", 60), (1800, "b", 1800), (1800, None, 1800), (70, "c", 70)):
        ask = {"accountId": "alice", "amount": 1, "modelId": "m"} | ({"ttlSeconds": named} if named else {})
        headers = {"idempotency-key": key} if key else {}
        answer = await client.post("/api/credits/reserve", json=ask, headers=headers)
        made = answer.json()["reservation"]
        created, ends = (datetime.fromisoformat(made[name]) for name in ("createdAt", "expiresAt"))
        assert seconds == (ends - created).total_seconds()


async def test_without_a_key_every_request_is_a_new_one(client):
    await grant(client)
    ask = {"accountId": "alice", "amount": 1}
    answers = [await client.post("/api/credits/deduct", json=ask) for _ in range(2)]
    assert [99, 98] == [each.json()["balance"]["available"] for each in answers]


async def test_a_refusal_is_kept_under_its_key_and_says_so(client):
    await grant(client, amount=1)
    ask = {"accountId": "alice", "amount": 5}
    key = {"idempotency-key": "k"}
    first = await client.post("/api/credits/deduct", json=ask, headers=key)
    await grant(client, amount=100)
    again = await client.post("/api/credits/deduct", json=ask, headers=key)
    assert (402, 402) == (first.status_code, again.status_code)
    assert first.json() == again.json()
    assert "use a new key to try again" in first.json()["detail"]
    assert (None, "true") == (
        first.headers.get("idempotency-replayed"),
        again.headers["idempotency-replayed"],
    )
    assert (
        201
        == (await client.post("/api/credits/deduct", json=ask, headers={"idempotency-key": "l"})).status_code
    )


async def test_a_refusal_without_a_key_does_not_speak_of_keys(client):
    await grant(client, amount=1)
    answer = await client.post("/api/credits/deduct", json={"accountId": "alice", "amount": 5})
    assert {"required": 5, "available": 1, "held": 0}.items() <= answer.json().items()
    assert "key" not in answer.json()["detail"]

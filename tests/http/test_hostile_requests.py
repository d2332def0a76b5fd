"""Whatever headers, queries, paths and methods are sent, the answer is a problem that says what is wrong."""

from tests.http.refused import is_invalid

UUID = "01a1ffa5-4956-7003-abd8-99c175348713"
GRANT = {"accountId": "alice", "amount": 1}

HEADERS = [
    {"idempotency-key": ""},
    {"idempotency-key": "k" * 256},
    {"idempotency-key": "k\x7f"},
    {"idempotency-key": b"k\xe4"},
    {"idempotency-key": "a\tb"},
    {"idempotency-key": '"'},
    {"idempotency-key": '""'},
    {"idempotency-key": '"open'},
    {"idempotency-key": '"a"b"'},
    {"idempotency-key": '"a\\b"'},
    {"lastro-ack": ""},
    {"lastro-ack": "Journaled"},
    {"lastro-ack": "memory"},
    {"lastro-ack": "journaled,journaled"},
]


async def test_headers_have_their_shape(client):
    for wrong in HEADERS:
        answer = await client.post("/api/credits/grant", json=GRANT, headers=wrong)
        assert is_invalid(answer), wrong
        assert next(iter(wrong)) == answer.json()["field"].lower()
    for path, body in (
        ("/api/credits/batch", {"operations": [{"operation": "grant", **GRANT}]}),
        ("/api/credits/extend", {"reservationId": UUID, "ttlSeconds": 60}),
        ("/api/credits/refund", {"transactionId": "0-1-1"}),
        ("/api/credits/adjust", {"accountId": "alice", "amount": 1, "reason": "why"}),
    ):
        for wrong in ({"idempotency-key": "k" * 256}, {"lastro-ack": "memory"}):
            assert is_invalid(await client.post(path, json=body, headers=wrong)), (path, wrong)
    twice = [("idempotency-key", "a"), ("idempotency-key", "b")]
    assert is_invalid(await client.post("/api/credits/grant", json=GRANT, headers=twice))


async def test_a_quoted_key_may_hold_quotes(client):
    for key in ('"say \\"hi\\""', '  say "hi"'):
        answer = await client.post("/api/credits/grant", json=GRANT, headers={"idempotency-key": key})
        assert 1 == answer.json()["balance"]["available"]


QUERIES = [
    "/api/credits/balance",
    "/api/credits/balance?accountId=",
    "/api/credits/balance?accountId=a%00",
    "/api/credits/balance?accountId=a&accountId=a",
    "/api/credits/balance?accountId=a&include=",
    "/api/credits/balance?accountId=a&include=everything",
    "/api/credits/balance?accountId=a&at=yesterday",
    "/api/credits/balance?accountId=%FF",
    "/api/credits/balance?accountId",
    "/api/credits/balance?&&&",
    "/api/credits/balance?" + "&".join(f"a{number}=1" for number in range(100)),
    "/api/images/by-task-id",
    "/api/images/by-task-id?taskId=",
    "/api/images/by-task-id?taskId=" + "t" * 256,
    "/api/images/by-task-id?taskId=t&provider=a:b",
    "/api/credits/transactions?limit=0",
    "/api/credits/transactions?limit=201",
    "/api/credits/transactions?limit=ten",
    "/api/credits/transactions?limit=-1",
    "/api/credits/transactions?limit=1.0",
    "/api/credits/transactions?limit=",
    "/api/credits/transactions?limit=%D9%A1",
    "/api/credits/transactions?kind=",
    "/api/credits/transactions?kind=granted,",
    "/api/credits/transactions?kind=granted,stolen",
    "/api/credits/transactions?from=yesterday",
    "/api/credits/transactions?from=5",
    "/api/credits/transactions?to=2100-01-01T00:00:00",
    "/api/credits/transactions?reservationId=17",
    "/api/credits/transactions?format=xml",
    "/api/credits/transactions/1-1",
    "/api/credits/transactions/01-1-1",
    "/api/credits/transactions/1-1-0",
    "/api/credits/transactions/1-1-1?x=1",
    "/api/credits/transactions/1-1-" + "9" * 400,
    "/api/credits/reservations/" + UUID[:-1],
    "/api/credits/reservations/" + UUID + "%0A",
    "/api/credits/reservations/" + UUID + "?x=1",
]


async def test_queries_have_their_shape(client):
    for path in QUERIES:
        answer = await client.get(path)
        assert is_invalid(answer), path
        assert "(?!" not in answer.json()["detail"], path


async def test_unknown_paths_and_methods_are_problems_too(client):
    for path in (
        "/",
        "/api",
        "/api/credits",
        "/api/credits/steal",
        "/api/credits/reservation",
        "/api/credits/batch/x",
        "/docs/x",
        "/%00",
    ):
        answer = await client.get(path)
        assert (404, "not_found") == (answer.status_code, answer.json()["code"]), path
    for method, path, allowed in (
        ("GET", "/api/credits/deduct", "POST"),
        ("DELETE", "/api/credits/balance", "GET"),
        ("PATCH", f"/api/credits/reservations/{UUID}/task", "PUT"),
        ("POST", "/api/credits/accounts/alice", "GET, PATCH"),
        ("GET", "/api/credits/batch", "POST"),
        ("POST", "/health/live", "GET"),
    ):
        answer = await client.request(method, path)
        assert (405, "method_not_allowed") == (answer.status_code, answer.json()["code"]), path
        assert allowed == answer.headers["allow"]

"""Who is let in, and to what."""

import httpx
from litestar import Litestar, get
from litestar.routes import HTTPRoute

from app.http.auth import OPEN, Authentication
from app.http.handlers import HANDLERS
from app.http.wire import Answer, LedgerRequest
from persistence import api_keys
from tests.http.steps import grant, reserve

UUID = "01a1ffa5-4956-7003-abd8-99c175348713"
OPEN_PATHS = {
    "/health/live",
    "/health/ready",
    "/docs",
    "/docs/openapi.json",
    "/docs/rapidoc.js",
    "/docs/{path:str}",
    # Whose delivery it is, its signature says: tests/http/test_webhooks.py.
    "/api/webhooks/{provider:str}",
    "/api/webhook/{provider:str}",
    "/api/webhooks/{provider:str}/{reservation:str}/{token:str}",
}


IN_PATHS = {
    "{reservation:str}": UUID,
    "{transaction:str}": "1-1-1",
    "{account:str}": "alice",
    "{delivery:str}": UUID,
    "{endpoint:str}": UUID,
    "{event:str}": UUID,
}


def filled(path: str) -> str:
    """The path with something in the places of its parameters."""
    for place, value in IN_PATHS.items():
        path = path.replace(place, value)
    return path


def routes(app: Litestar) -> list[tuple[str, str]]:
    """Every method and path that the application answers, but for its pages, which have a gate of their own
    (tests/dashboard/test_entering.py).
    """
    return [
        (method, route.path)
        for route in app.routes
        if isinstance(route, HTTPRoute) and not route.path.startswith("/dashboard")
        for method in sorted(route.route_handler_map)
    ]


async def test_every_route_but_the_open_ones_asks_who_you_are(app, stranger):
    walked = routes(app)
    assert len(walked) > 2 * 11
    for method, path in walked:
        if path in OPEN_PATHS:
            continue
        answer = await stranger.request(method, filled(path))
        assert (401, "Bearer") == (answer.status_code, answer.headers["www-authenticate"]), (method, path)


async def test_the_open_routes_are_these_and_no_others(app):
    opened = {
        route.path
        for route in app.routes
        if isinstance(route, HTTPRoute) and not route.path.startswith("/dashboard")
        for handler, _ in route.route_handler_map.values()
        if handler.opt.get("scope") == OPEN
    }
    assert OPEN_PATHS == opened


async def test_a_route_that_names_no_scope_is_open_to_nobody(app):
    @get("/forgotten")
    async def forgotten() -> None: ...

    careless = Litestar(
        [forgotten],
        middleware=[Authentication],
        exception_handlers=HANDLERS,
        request_class=LedgerRequest,
        response_class=Answer,
        openapi_config=None,
    )
    careless.state.parts = app.state.parts
    pool = app.state.parts.history._pool
    token = await api_keys.create(pool, "everything", ["spend", "grant", "read", "operate"])
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(careless), base_url="http://lastro.test"
    ) as client:
        assert 401 == (await client.get("/forgotten")).status_code
        assert (
            403 == (await client.get("/forgotten", headers={"authorization": f"Bearer {token}"})).status_code
        )


NO_KEYS = [
    "",
    "Bearer",
    "Bearer ",
    "Basic YTpi",
    "Bearer nonsense",
    "Bearer lk_00000000_" + "A" * 43,
    b"Bearer \xff\xfe",
    "x" * 9000,
]


async def test_what_is_no_key_is_401(stranger):
    for authorization in NO_KEYS:
        answer = await stranger.get(
            "/api/credits/balance?accountId=a", headers={"authorization": authorization}
        )
        assert (401, "unauthenticated") == (answer.status_code, answer.json()["code"]), authorization


async def test_the_scheme_is_read_in_any_case(client, stranger):
    await grant(client)
    token = client.headers["authorization"].partition(" ")[2]
    answer = await stranger.get(
        "/api/credits/balance?accountId=alice", headers={"authorization": f"bearer {token}"}
    )
    assert 200 == answer.status_code


MAY = {
    ("POST", "/api/credits/grant"): {"grant"},
    ("POST", "/api/credits/deduct"): {"spend"},
    ("POST", "/api/credits/reserve"): {"spend"},
    ("POST", "/api/credits/confirm"): {"spend"},
    ("POST", "/api/credits/cancel"): {"spend"},
    ("POST", "/api/credits/extend"): {"spend"},
    ("POST", "/api/credits/refund"): {"grant"},
    ("POST", "/api/credits/adjust"): {"operate"},
    ("POST", "/api/credits/batch"): {"spend", "grant", "operate"},
    ("GET", "/api/credits/accounts"): {"spend", "read", "operate"},
    ("GET", "/api/credits/accounts/alice"): {"spend", "read", "operate"},
    ("PATCH", "/api/credits/accounts/alice"): {"operate"},
    ("GET", "/api/credits/accounts/alice/statement"): {"spend", "read", "operate"},
    ("GET", "/api/credits/reservations"): {"spend", "read", "operate"},
    ("PUT", f"/api/credits/reservations/{UUID}/task"): {"spend"},
    ("GET", "/api/credits/balance"): {"spend", "read", "operate"},
    ("GET", f"/api/credits/reservations/{UUID}"): {"spend", "read", "operate"},
    ("GET", "/api/images/by-task-id"): {"spend", "read", "operate"},
    ("GET", "/api/credits/transactions"): {"spend", "read", "operate"},
    ("GET", "/api/credits/models"): {"spend", "read", "operate"},
    ("PUT", "/api/credits/models"): {"operate"},
    ("POST", "/api/credits/quote"): {"spend"},
    ("GET", "/api/credits/transactions/1-1-1"): {"spend", "read", "operate"},
    ("GET", "/metrics"): {"spend", "read", "operate"},
    ("GET", "/api/credits/monitoring"): {"spend", "read", "operate"},
    ("GET", "/api/credits/reconciliation"): {"operate"},
    ("POST", "/api/credits/reconciliation"): {"operate"},
    ("GET", "/api/credits/alerts"): {"operate"},
    ("GET", "/api/credits/cleanup"): {"operate"},
    ("POST", "/api/credits/cleanup"): {"operate"},
    ("GET", "/api/credits/auto-cleanup"): {"operate"},
    ("POST", "/api/credits/auto-cleanup"): {"operate"},
    ("GET", "/api/credits/events"): {"operate"},
    ("POST", f"/api/credits/events/{UUID}/replay"): {"operate"},
    ("GET", "/api/credits/events/endpoints"): {"operate"},
    ("POST", "/api/credits/events/endpoints"): {"operate"},
    ("PATCH", f"/api/credits/events/endpoints/{UUID}"): {"operate"},
    ("DELETE", f"/api/credits/events/endpoints/{UUID}"): {"operate"},
    ("GET", "/api/credits/webhooks"): {"operate"},
    ("GET", f"/api/credits/webhooks/{UUID}"): {"operate"},
    ("POST", f"/api/credits/webhooks/{UUID}/replay"): {"operate"},
}


async def test_a_scope_lets_in_where_the_contract_says_and_nowhere_else(client_of):
    for scope in ("spend", "grant", "read", "operate"):
        client = await client_of(scope)
        for (method, path), scopes in MAY.items():
            answer = await client.request(method, path)
            assert (403 != answer.status_code) == (scope in scopes), (scope, method, path)


async def test_every_route_stands_in_the_table_of_scopes(app):
    asked = {
        (method, filled(path))
        for method, path in routes(app)
        if method != "OPTIONS" and path not in OPEN_PATHS
    }
    assert asked == MAY.keys()


async def test_a_key_of_one_account_spends_there_and_is_refused_elsewhere(client, client_of):
    await grant(client, "alice")
    await grant(client, "bob")
    alice = await client_of("spend", account="alice")
    assert (
        201 == (await alice.post("/api/credits/deduct", json={"accountId": "alice", "amount": 1})).status_code
    )
    for verb in ("deduct", "reserve"):
        answer = await alice.post(f"/api/credits/{verb}", json={"accountId": "bob", "amount": 1})
        assert (403, "forbidden") == (answer.status_code, answer.json()["code"])
    assert 403 == (await alice.get("/api/credits/balance?accountId=bob")).status_code
    assert 403 == (await alice.get("/api/credits/transactions?accountId=bob")).status_code
    own = await alice.get("/api/credits/balance")
    assert ("alice", 99) == (own.json()["accountId"], own.json()["available"])


async def test_to_a_key_of_one_account_the_reservations_of_others_do_not_exist(client, client_of):
    await grant(client, "bob")
    theirs = (await reserve(client, "bob", taskId="t"))["reservation"]["id"]
    await grant(client, "alice")
    alice = await client_of("spend", account="alice")
    asked = [
        ("GET", f"/api/credits/reservations/{theirs}", None),
        ("GET", "/api/images/by-task-id?taskId=t", None),
        ("POST", "/api/credits/confirm", {"reservationId": theirs}),
        ("POST", "/api/credits/confirm", {"taskId": "t"}),
        ("POST", "/api/credits/confirm", {"reservationId": theirs, "accountId": "alice"}),
        ("POST", "/api/credits/cancel", {"reservationId": theirs}),
        ("POST", "/api/credits/extend", {"reservationId": theirs, "ttlSeconds": 7200}),
        ("POST", "/api/credits/extend", {"taskId": "t", "ttlSeconds": 7200}),
        ("PUT", f"/api/credits/reservations/{theirs}/task", {"taskId": "u"}),
    ]
    nobodys = theirs[:-4] + "0000"
    for method, path, body in asked:
        answer = await alice.request(method, path, json=body)
        assert (404, "reservation_not_found") == (answer.status_code, answer.json()["code"]), path
        other = await alice.request(
            method,
            path.replace(theirs, nobodys).replace("=t", "=none"),
            json=body and {**body, **({"reservationId": nobodys} if "reservationId" in body else {})},
        )
        assert answer.json() == other.json(), path
    assert "pending" == (await client.get(f"/api/credits/reservations/{theirs}")).json()["status"]


async def test_a_task_conflict_does_not_tell_a_key_of_one_account_whose_task_it_is(client, client_of):
    await grant(client, "bob")
    theirs = (await reserve(client, "bob", taskId="t"))["reservation"]["id"]
    await grant(client, "alice")
    ask = {"accountId": "alice", "amount": 1, "taskId": "t"}
    alice = await client_of("spend", account="alice")
    told = (await client.post("/api/credits/reserve", json=ask)).json()
    not_told = (await alice.post("/api/credits/reserve", json=ask)).json()
    assert ("task_conflict", theirs) == (told["code"], told["reservation"])
    assert "task_conflict" == not_told["code"]
    assert theirs not in str(not_told)


async def test_a_revoked_key_ends_with_the_next_refresh(app, client, client_of, database):
    await grant(client)
    reader = await client_of("read")
    assert 200 == (await reader.get("/api/credits/balance?accountId=alice")).status_code
    await api_keys.revoke(database, "key-1")
    assert await app.state.parts.keys.refresh()
    assert 401 == (await reader.get("/api/credits/balance?accountId=alice")).status_code

"""What every answer says to browsers, and which pages may ask from one."""

import asyncio
import re

import httpx
import pytest

from app.http.door import POLICY, SECURITY
from app.http.wire import BODY_BYTES_MAX
from app.settings import Settings, SettingsError
from persistence.birth import give_birth
from tests.http.conftest import SHARDS
from tests.http.serving import create_app
from tests.http.steps import CREDITS, do
from tests.http.test_auth import filled, routes
from tests.listening import serving

SHOP, OTHER = "https://shop.example", "http://localhost:3000"
EVIL = [
    "https://evil.example", "https://shop.example.evil.example", "https://shop.example:444", "http://shop.example",
    "https://SHOP.example", "https://shop.example/", "null", "*", "", "https://evilshop.example",
]  # fmt: skip
PREFLIGHT = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
LEAKS = re.compile(
    r"Traceback|File \"|\.py|uvicorn|litestar|msgspec|asyncpg|redis://|postgres(?:ql)?://|127\.0\.0\.1|Valkey",
    re.IGNORECASE,
)


@pytest.fixture
async def settings(redis_url: str, database_url: str) -> Settings:
    await give_birth(database_url, redis_url, SHARDS)
    return Settings(
        redis_url=redis_url, database_url=database_url, shards=SHARDS, cors_origins=f"{SHOP}, {OTHER}"
    )


def is_sealed(answer: httpx.Response) -> None:
    for name, value in SECURITY:
        assert [value.decode()] == answer.headers.get_list(name.decode()), name
    assert 1 == len(answer.headers.get_list("content-security-policy"))
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert "server" not in answer.headers
    assert "x-powered-by" not in answer.headers


async def test_every_route_and_every_error_says_the_same_to_browsers(app, client, stranger):
    for method, path in routes(app):
        for asking in (client, stranger):
            is_sealed(await asking.request(method, filled(path)))
    for method, path in (
        ("GET", "/"),
        ("GET", "/nowhere"),
        ("DELETE", f"{CREDITS}/balance"),
        ("GET", "/docs/x"),
    ):
        is_sealed(await client.request(method, path))
    is_sealed(await client.post(f"{CREDITS}/grant", content=b"x" * (BODY_BYTES_MAX + 1)))


async def test_a_bug_tells_nothing_of_the_program(app, client, monkeypatch):
    async def fails(*_: object) -> None:
        raise RuntimeError("postgresql://lastro:secret@127.0.0.1/lastro")

    monkeypatch.setattr(app.state.parts.ledger, "balance", fails)
    answer = await client.get(f"{CREDITS}/balance?accountId=alice")
    assert (500, "internal_error") == (answer.status_code, answer.json()["code"])
    is_sealed(answer)
    assert not LEAKS.search(answer.text)


async def test_pages_of_the_list_may_read_answers_and_others_may_not(client):
    await do(client, "grant", accountId="alice", amount=1)
    for path, status in (
        (f"{CREDITS}/balance?accountId=alice", 200),
        ("/nowhere", 404),
        (f"{CREDITS}/balance", 400),
    ):
        for origin in (SHOP, OTHER):
            answer = await client.get(path, headers={"origin": origin})
            assert (status, origin) == (answer.status_code, answer.headers["access-control-allow-origin"])
            assert "ratelimit" in answer.headers["access-control-expose-headers"]
            assert "origin" == answer.headers["vary"]
            assert "access-control-allow-credentials" not in answer.headers
        for origin in EVIL:
            answer = await client.get(path, headers={"origin": origin})
            assert status == answer.status_code
            assert not [name for name in answer.headers if name.startswith("access-control-")], origin
            assert "origin" == answer.headers["vary"], "no cache gives it to a page of the list"


async def test_a_preflight_of_the_list_is_answered_without_asking_anybody(app, stranger, monkeypatch):
    monkeypatch.setattr(app.state, "parts", None)  # whatever it would ask is not there
    for path in (f"{CREDITS}/deduct", f"{CREDITS}/balance?accountId=alice", "/nowhere"):
        answer = await stranger.options(path, headers={"origin": SHOP, **PREFLIGHT})
        assert (204, b"", SHOP) == (
            answer.status_code, answer.content, answer.headers["access-control-allow-origin"],
        )  # fmt: skip
        assert {
            *("authorization", "content-type", "idempotency-key", "if-none-match", "lastro-ack"),
            "x-request-id",
        } == set(answer.headers["access-control-allow-headers"].split(", "))
        assert {"GET", "POST", "PUT", "PATCH", "DELETE"} == set(
            answer.headers["access-control-allow-methods"].split(", ")
        )
        assert "origin" == answer.headers["vary"]
        is_sealed(answer)


async def test_a_preflight_of_anybody_else_is_nothing_special(stranger):
    for origin in EVIL:
        answer = await stranger.options(f"{CREDITS}/deduct", headers={"origin": origin, **PREFLIGHT})
        assert 401 == answer.status_code
        assert not [name for name in answer.headers if name.startswith("access-control-")], origin
    answer = await stranger.options(f"{CREDITS}/deduct", headers={"origin": SHOP})
    assert 401 == answer.status_code, "without the question for a method it is none"


async def test_without_a_list_no_page_may_ask(settings):
    bare = Settings(redis_url=settings.redis_url, database_url=settings.database_url, shards=SHARDS)
    application = create_app(bare)
    application.state.parts = None
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(application, raise_app_exceptions=False), base_url="http://lastro.test"
    ) as stranger:
        for origin in (SHOP, *EVIL):
            answer = await stranger.get("/health/live", headers={"origin": origin})
            assert 200 == answer.status_code
            assert not {"access-control-allow-origin", "vary"} & set(answer.headers)


@pytest.mark.parametrize(
    "wrong",
    ["*", "https://*.shop.example", "null", "shop.example", "https://shop.example/", "https://shop.example/a",
     "https://Shop.example", "ftp://shop.example", "https://", "https://a@shop.example", "https://shop.example:x",
     "https://shop.example,", "https://shöp.example", "https://shop.example?x", "https://shop.example:"],
)  # fmt: skip
def test_what_is_no_origin_is_refused_at_the_start(wrong):
    stores = {"LASTRO_REDIS_URL": "redis://r", "LASTRO_DATABASE_URL": "postgresql://p"}
    with pytest.raises(SettingsError, match="LASTRO_CORS_ORIGINS"):
        Settings.read({**stores, "LASTRO_CORS_ORIGINS": wrong})


@pytest.fixture
async def port(settings):
    """Of a real server, because what is no HTTP does not come to the application."""
    application = create_app(settings)
    application.state.parts = None
    async with serving(application) as port:
        yield port


async def said(port: int, sent: bytes) -> tuple[bytes, dict[bytes, bytes], bytes]:
    """Status line, headers and body of what is answered to bytes, until the connection ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    async with asyncio.timeout(5):
        answer = await reader.read()
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.split(b"\r\n")
    return status, {line.partition(b": ")[0].lower(): line.partition(b": ")[2] for line in lines}, body


async def test_what_is_no_http_and_heads_beyond_the_bound_are_answered_alike(port):
    head = b"GET /health/live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
    for sent in (
        b"nonsense\r\n\r\n",
        head + b"Content-Length: x\r\n\r\n",
        head + b"X: a\x00b\r\n\r\n",
    ):
        status, headers, body = await said(port, sent)
        assert status.startswith(b"HTTP/1.1 400"), sent
        assert {*SECURITY, POLICY} <= headers.items()
        assert b"application/problem+json" == headers[b"content-type"]
        assert b'"code":"invalid_request"' in body
        assert b"server" not in headers
        assert not LEAKS.search(body.decode())
    status, headers, _ = await said(port, head + b"\r\n")
    assert (b"HTTP/1.1 200 OK", False) == (status, b"server" in headers)
    fits = b"X: " + b"a" * 8_000 + b"\r\n"
    status, _, _ = await said(port, head + fits * 7 + b"\r\n")
    assert status.startswith(b"HTTP/1.1 200"), "56 KB of headers fit"

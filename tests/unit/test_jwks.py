"""Keys of others: how often they are asked for, what stays while they are away, and what is not believed."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable

import httpx
import msgspec
import pytest

from app.jwks import AGAIN_SECONDS, BYTES_MAX, FIRST_AGAIN_SECONDS, Jwks, KeysUnavailable, demand_source
from tests.listening import listening

OLD, NEW = {"kty": "OKP", "kid": "old"}, {"kty": "OKP", "kid": "new"}


class Source:
    """A real HTTP server that answers what it is told to, and counts."""

    def __init__(self) -> None:
        self.asked = 0
        self.status = "200 OK"
        self.more = ""
        self.answers(OLD)

    def answers(self, *keys: dict[str, str]) -> None:
        self.body = msgspec.json.encode({"keys": list(keys)})

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        self.asked += 1
        lines = [
            f"HTTP/1.1 {self.status}",
            f"content-length: {len(self.body)}",
            "connection: close",
            self.more,
        ]
        writer.write("".join(f"{line}\r\n" for line in [*filter(None, lines), ""]).encode() + self.body)


@pytest.fixture
async def source() -> AsyncIterator[Source]:
    source = Source()
    async with listening(source.serve) as port:
        source.url = f"http://127.0.0.1:{port}/jwks.json"
        yield source


class Clock:
    """Stands still until a test moves it."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False, follow_redirects=True) as client:
        yield client


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def jwks(source: Source, client: httpx.AsyncClient, clock: Clock) -> Jwks:
    return Jwks(source.url, client, keep_seconds=600, clock=clock)


async def test_keys_are_asked_for_once_by_all_who_want_them_and_again_when_they_are_old(jwks, source, clock):
    assert [[OLD]] * 20 == await asyncio.gather(*(jwks.keys() for _ in range(20)))
    assert source.asked == 1
    source.answers(NEW)
    clock.now += 599
    assert [OLD] == await jwks.keys()
    clock.now += 1
    assert [NEW] == await jwks.keys()
    assert source.asked == 2


async def test_a_missed_key_is_asked_for_at_once_but_not_by_everybody(jwks, source, clock):
    await jwks.keys()
    clock.now += AGAIN_SECONDS
    source.answers(OLD, NEW)
    assert [[OLD, NEW]] * 20 == await asyncio.gather(*(jwks.keys(fresh=True) for _ in range(20)))
    clock.now += AGAIN_SECONDS - 1
    await jwks.keys(fresh=True)
    assert source.asked == 2
    clock.now += 1
    await jwks.keys(fresh=True)
    assert source.asked == 3


BAD: dict[str, Callable[[Source], object]] = {
    "an error": lambda source: setattr(source, "status", "500 Internal Server Error"),
    "a redirect": lambda source: setattr(source, "status", "302 Found\r\nlocation: " + source.url),
    "no JSON": lambda source: setattr(source, "body", b"<html>"),
    "no keys": lambda source: source.answers(),
    "another shape": lambda source: setattr(source, "body", b'{"keys": ["a"]}'),
    "too much": lambda source: source.answers({"kid": "x" * BYTES_MAX}),
    "something packed": lambda source: (
        setattr(source, "more", "content-encoding: gzip"),
        setattr(source, "body", gzip.compress(b'{"keys": [{"kid": "packed"}]}')),
    ),
}


@pytest.mark.parametrize("bad", BAD)
async def test_what_a_source_should_not_answer_changes_nothing(jwks, source, clock, bad):
    await jwks.keys()
    BAD[bad](source)
    clock.now += 600
    assert [OLD] == await jwks.keys()
    assert [OLD] == await jwks.keys()
    assert source.asked == 2, "and is not asked for again at once"


async def test_without_any_keys_it_says_so_and_tries_again_soon(jwks, source, clock):
    source.status = "503 Service Unavailable"
    for _ in range(3):
        with pytest.raises(KeysUnavailable):
            await jwks.keys()
    assert source.asked == 1
    source.status = "200 OK"
    clock.now += FIRST_AGAIN_SECONDS
    assert [OLD] == await jwks.keys()


async def test_a_source_that_does_not_listen_or_never_ends_is_away(client, clock, monkeypatch):
    with pytest.raises(KeysUnavailable):
        await Jwks("http://127.0.0.1:1/", client, clock=clock).keys()

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
        while True:
            writer.write(b" ")
            await asyncio.sleep(0.01)

    monkeypatch.setattr("app.jwks.FETCH_SECONDS", 0.2)
    async with listening(drip) as port:
        with pytest.raises(KeysUnavailable):
            await Jwks(f"http://127.0.0.1:{port}/", client, clock=clock).keys()


async def test_keys_that_are_given_are_never_asked_for(client, clock):
    jwks = Jwks('{"keys": [{"kty": "OKP", "kid": "old"}]}', client, clock=clock)
    clock.now += 1_000_000
    assert [OLD] == await jwks.keys(fresh=True)


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "jwks.json",
        "ftp://example.com/",
        "http://example.com/jwks.json",
        "https://",
        "{",
        '{"keys": []}',
        "[]",
    ],
)
def test_a_source_is_a_url_that_nobody_can_forge_or_the_keys(wrong):
    with pytest.raises(ValueError, match=r"JWKS"):
        demand_source(wrong)


async def test_while_keys_are_fetched_those_who_have_theirs_do_not_wait(client, clock):
    """A made-up key id has them fetched, and their source may take its time."""
    asked, answer = asyncio.Event(), asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = msgspec.json.encode({"keys": [OLD]})
        if asked.is_set():
            await answer.wait()
        asked.set()
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + body)

    async with listening(slow) as port:
        jwks = Jwks(f"http://127.0.0.1:{port}/", client, clock=clock)
        assert [OLD] == await jwks.keys()
        clock.now += AGAIN_SECONDS
        missing = [asyncio.create_task(jwks.keys(fresh=True)) for _ in range(2)]
        await asyncio.sleep(0)
        assert jwks._one_at_a_time.locked()
        async with asyncio.timeout(1):
            assert [OLD] == await jwks.keys()
        assert not any(each.done() for each in missing)
        answer.set()
        assert [[OLD], [OLD]] == await asyncio.gather(*missing)

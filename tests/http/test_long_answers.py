"""Long answers over a real connection: whole, cut, abandoned, or taken slowly by whoever reads them."""

import asyncio
import contextlib

import httpx
import pytest

from persistence import listing
from persistence.api_keys import create
from tests.http.serving import create_app
from tests.listening import serving

ROWS = 20_000
FILL = f"""
SELECT make_journal_months(ARRAY[timestamptz '2026-01-02']);
INSERT INTO journal (shard, seq, incarnation, at, kind, account, version, amount, available, held, by, entry,
  hash)
SELECT 0, n, 1, timestamptz '2026-01-02 03:04:05Z' + n * interval '1 second', 'granted', 'alice', n, 1, n, 0,
  'key:shop', format('{{"v":1,"kind":"granted","at_ms":%s,"account":"alice","version":%s,"amount":1,'
  '"available":%s,"held":0,"legs":[["default",0,1,0]],"incarnation":1,"nonce":"n"}}',
  1767323045000 + n * 1000, n, n),
  decode(repeat('00', 32), 'hex')
FROM generate_series(1, {ROWS}) n;
INSERT INTO notes (shard, seq, text)
SELECT 0, n, '{{"salt":"","reason":"' || repeat('x', 1500) || '"}}' FROM generate_series(1, {ROWS}) n;
INSERT INTO accounts (account, shard, version, available, held, opened_at, last_at)
VALUES ('alice', 0, {ROWS}, {ROWS}, 0, '2026-01-02', '2026-01-02');
UPDATE shards SET cursor = {ROWS} WHERE shard = 0;
"""
EXPORT = "/api/credits/transactions?format=jsonl"
STATEMENT = "/api/credits/accounts/alice/statement?from=2026-01-01T00:00:00Z&to=2026-02-01T00:00:00Z"


@pytest.fixture
async def served(settings, database):
    """A service on a port of its own: where it is, a key, and what it runs."""
    await database.execute(FILL)
    token = await create(database, "reader", ("read",))
    application = create_app(settings)
    async with serving(application, lifespan=True) as port:
        yield port, token, application


@pytest.fixture
async def steps(monkeypatch):
    """How many steps have been made. `fail_at`: the one that fails."""

    class Steps:
        made, fail_at = 0, 10**9

    step, steps = listing.step, Steps()

    async def counted(*arguments):
        steps.made += 1
        if steps.made == steps.fail_at:
            raise ConnectionResetError("PostgreSQL went away")
        return await step(*arguments)

    monkeypatch.setattr(listing, "step", counted)
    return steps


def client(port, token):
    return httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{port}", headers={"authorization": f"Bearer {token}"}, timeout=30
    )


@contextlib.asynccontextmanager
async def reading(port, token, path):
    """A connection that has asked, and that reads only what the test reads."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=4096)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
    assert b"200" in await reader.readline()
    yield reader, writer
    writer.close()


async def until_quiet(steps):
    """How many steps there are when no more come."""
    async with asyncio.timeout(20):
        while True:
            before = steps.made
            await asyncio.sleep(0.4)
            if steps.made == before:
                return before


async def test_a_whole_export_has_an_end(served, steps):
    port, token, _ = served
    async with client(port, token) as http:
        answer = await http.get(EXPORT)
    assert ROWS == answer.text.count("\n") == len(answer.text.splitlines())
    assert "chunked" == answer.headers["transfer-encoding"]


async def test_an_export_that_fails_in_the_middle_has_no_end(served, steps):
    port, token, application = served
    steps.fail_at = 5
    async with client(port, token) as http:
        with pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
            await http.get(EXPORT)
        assert 5 == steps.made
        assert not application.state.parts.room._taken
        steps.fail_at = 6
        assert 503 == (await http.get(EXPORT)).status_code, "what fails at the beginning is said"


async def test_who_goes_away_is_not_read_for(served, steps):
    port, token, application = served
    async with reading(port, token, EXPORT) as (reader, _):
        await reader.readexactly(1000)
    async with asyncio.timeout(5):
        while application.state.parts.room._taken:  # noqa: ASYNC110 - what it polls is polled
            await asyncio.sleep(0.01)
    assert steps.made < ROWS // 500


async def test_nobody_reads_ahead_of_a_client_that_takes_its_time(served, steps):
    """The memory of an export is a step, and what the system's sockets hold."""
    port, token, _ = served
    async with reading(port, token, EXPORT) as (reader, _):
        await reader.readexactly(1000)
        waiting = await until_quiet(steps)
        assert waiting < ROWS // 500
        await reader.readexactly(20_000_000)
        assert steps.made > waiting


async def test_a_statement_streams_too_and_is_cut_like_an_export(served, monkeypatch):
    port, token, application = served
    async with client(port, token) as http:
        whole = (await http.get(STATEMENT)).json()
        assert ROWS == len(whole["entries"]) == whole["closing"]["available"]
        past, pages = application.state.parts.past, 0
        shown = past._pages

        async def failing(*arguments):
            nonlocal pages
            async for page in shown(*arguments):
                pages += 1
                if pages == 3:
                    raise ConnectionResetError
                yield page

        monkeypatch.setattr(past, "_pages", failing)
        with pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
            await http.get(STATEMENT)

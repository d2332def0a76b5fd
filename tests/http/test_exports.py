"""The whole export in one answer: exact, of one moment, and never half a file for a whole one."""

import asyncio
import csv
import io
import json

import pytest

from app.http import room, streamed
from app.http.exports import COLUMNS
from app.ledger.backing import BackingUnavailable
from persistence import history, listing
from tests.http.steps import JOURNALED, do, grant, reserve

PATH = "/api/credits/transactions"


@pytest.fixture
async def shop(client, journal, monkeypatch):
    """Some transactions, all of them journaled; an export takes them two at a time."""
    monkeypatch.setattr(history, "EXPORT_ROWS", 2)
    await grant(client, "alice", amount=100)
    held = (await reserve(client, "alice", amount=20, taskId="=cmd|'/c calc'!A1", modelId="@flux"))[
        "reservation"
    ]
    await do(client, "confirm", reservationId=held["id"], amount=15)
    await do(client, "deduct", accountId="alice", amount=5, modelId="flux", reason='=1+1;"quoted", \u00e9')
    await do(client, "adjust", accountId="alice", amount=-3, reason="'as it was'")
    await grant(client, "+5511", amount=7)
    await client.post("/api/credits/grant", json={"accountId": "bob", "amount": 1}, headers=JOURNALED)
    async with asyncio.timeout(10):
        while len((await client.get(PATH)).json()["data"]) < 7:  # noqa: ASYNC110 - what it polls is polled
            await asyncio.sleep(0.02)
    return client


def rows(answer):
    return list(csv.DictReader(io.StringIO(answer.text, newline="")))


async def test_lines_of_json_are_the_transactions_of_the_pages(shop):
    for query in (
        {},
        {"accountId": "alice"},
        {"kind": "granted,adjusted"},
        {"accountId": "bob", "kind": "deducted"},
    ):
        paged = (await shop.get(PATH, params=query)).json()["data"]
        answer = await shop.get(PATH, params=query | {"format": "jsonl"})
        assert (200, "application/jsonl") == (answer.status_code, answer.headers["content-type"])
        assert paged == [json.loads(line) for line in answer.text.splitlines()]
        assert "no-store" == answer.headers["cache-control"]


async def test_a_limit_does_not_bound_an_export_and_a_cursor_begins_it(shop):
    first = (await shop.get(PATH, params={"limit": 1})).json()
    everything = (await shop.get(PATH, params={"limit": 1, "format": "jsonl"})).text.splitlines()
    rest = (await shop.get(PATH, params={"cursor": first["nextCursor"], "format": "jsonl"})).text.splitlines()
    assert 7 == len(everything)
    assert first["data"] == [json.loads(everything[0])]
    assert everything[1:] == rest


async def test_csv_has_the_columns_of_the_contract_and_the_same_transactions(shop):
    answer = await shop.get(PATH, params={"accountId": "alice", "format": "csv"})
    assert "text/csv; charset=utf-8" == answer.headers["content-type"]
    assert ",".join(COLUMNS) == answer.text.splitlines()[0]
    assert answer.text.count("\r\n") == answer.text.count("\n") == 6
    paged = (await shop.get(PATH, params={"accountId": "alice"})).json()["data"]
    for row, shown in zip(rows(answer), paged, strict=True):
        assert (shown["id"], shown["at"], shown["kind"], shown["accountId"], shown["by"]) == (
            row["id"], row["at"], row["kind"], row["accountId"], row["by"],
        )  # fmt: skip
        assert [shown["version"], shown["amount"], *shown["balance"].values()] == [
            int(row[name]) for name in ("version", "amount", "available", "held")
        ]
        assert shown.get("reservationId", "") == row["reservationId"]


async def test_no_cell_of_a_csv_is_a_formula_and_each_can_be_read_back(shop):
    listed = rows(await shop.get(PATH, params={"format": "csv"}))
    for row in listed:
        for column in ("accountId", "taskId", "modelId", "by", "reason"):
            assert row[column][:1] not in {"=", "+", "-", "@", "\t", "\r"}, row
    shown = (await shop.get(PATH)).json()["data"]
    for row, transaction in zip(listed, shown, strict=True):
        for column in ("accountId", "taskId", "modelId", "by", "reason"):
            assert transaction.get(column, "") == row[column].removeprefix("'")
    assert {"'+5511"} == {row["accountId"] for row in listed} - {"alice", "bob"}
    assert "-3" in {row["amount"] for row in listed}, "numbers stay numbers"


async def test_a_file_has_a_name_that_every_system_takes(shop):
    for query, name in (({}, "all"), ({"accountId": "alice"}, "alice"), ({"accountId": "+5511"}, "_5511")):
        disposition = (await shop.get(PATH, params=query | {"format": "csv"})).headers["content-disposition"]
        today = (await shop.get(PATH)).json()["data"][0]["at"][:10]
        assert f'attachment; filename="transactions-{name}-{today}.csv"' == disposition


async def test_an_export_of_nothing_is_a_head_or_no_line(shop):
    empty = {"accountId": "nobody"}
    assert [",".join(COLUMNS)] == (await shop.get(PATH, params=empty | {"format": "csv"})).text.splitlines()
    assert b"" == (await shop.get(PATH, params=empty | {"format": "jsonl"})).content


async def test_what_is_journaled_meanwhile_is_not_in_it(shop, app, monkeypatch):
    began, go_on = asyncio.Event(), asyncio.Event()
    step = listing.step

    async def slow(connection, which, position, *more):
        if position is None:  # its end is known, and nothing has been read
            began.set()
            await go_on.wait()
        return await step(connection, which, position, *more)

    monkeypatch.setattr(listing, "step", slow)
    asked = asyncio.create_task(shop.get(PATH, params={"format": "jsonl"}))
    await began.wait()
    await shop.post("/api/credits/grant", json={"accountId": "bob", "amount": 1}, headers=JOURNALED)
    go_on.set()
    assert 7 == len((await asked).text.splitlines())


async def test_a_key_of_one_account_exports_its_own_and_nothing_else(shop, client_of):
    alice = await client_of("read", account="alice")
    for form in ("csv", "jsonl"):
        whole = await shop.get(PATH, params={"accountId": "alice", "format": form})
        own = await alice.get(PATH, params={"format": form})
        assert whole.content == own.content
        assert 403 == (await alice.get(PATH, params={"accountId": "bob", "format": form})).status_code


async def test_what_is_wrong_before_the_first_piece_is_a_problem(shop, monkeypatch):
    cursor = (await shop.get(PATH, params={"accountId": "alice", "limit": 1})).json()["nextCursor"]
    wrong = await shop.get(PATH, params={"cursor": cursor, "format": "csv"})
    assert (400, "invalid_cursor") == (wrong.status_code, wrong.json()["code"])

    async def away(*_):
        raise BackingUnavailable

    monkeypatch.setattr(listing, "step", away)
    for form in ("csv", "jsonl"):
        answer = await shop.get(PATH, params={"format": form})
        assert (503, "ledger_unavailable") == (answer.status_code, answer.json()["code"])
        assert "retry-after" in answer.headers


async def test_only_so_many_long_answers_run_at_a_time(shop, app, client_of, monkeypatch):
    monkeypatch.setattr(room, "LONG_ANSWERS_MAX", 3)
    monkeypatch.setattr(room, "LONG_ANSWERS_OF_ONE_MAX", 2)
    past, waiting, go_on = app.state.parts.history, asyncio.Semaphore(0), asyncio.Event()
    export = past.export

    async def slow(*arguments, **named):
        waiting.release()
        await go_on.wait()
        async for page in export(*arguments, **named):
            yield page

    monkeypatch.setattr(past, "export", slow)
    other, third = await client_of("read"), await client_of("read")

    async def begin(client):
        asked = asyncio.create_task(client.get(PATH, params={"format": "jsonl"}))
        async with asyncio.timeout(10):
            await waiting.acquire()
        return asked

    running = [await begin(shop), await begin(shop)]
    refused = await shop.get(PATH, params={"format": "jsonl"})
    assert (503, "overloaded") == (refused.status_code, refused.json()["code"])
    running.append(await begin(other))
    assert 503 == (await third.get(PATH, params={"format": "csv"})).status_code
    go_on.set()
    assert [200] * 3 == [answer.status_code for answer in await asyncio.gather(*running)]
    assert 200 == (await third.get(PATH, params={"format": "jsonl"})).status_code


async def test_an_answer_of_which_nobody_takes_anything_is_given_up(monkeypatch):
    monkeypatch.setattr(streamed, "STALLED_SECONDS", 0.05)

    async def stalled(event):
        if event["type"] == "http.response.body":
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await streamed._one(stalled, b"piece", more=True)

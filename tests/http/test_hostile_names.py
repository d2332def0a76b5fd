"""Names and texts full of braces, colons, line breaks, SQL, Lua and Redis' protocol: refused, or inert.

All keys that are written meanwhile are looked at: each is of the shard that its id belongs to.
"""

import re

import pytest

from app.ledger import keys
from app.ledger.shards import shard_of, shard_of_reservation, shard_of_task
from tests.http.conftest import SHARDS
from tests.http.steps import CREDITS, ask, do

HOSTILE = [
    "{0}", "{1}:account:bob", "a}b{c", "a:b:c", "::", "account:bob", "lastro:{0}:account:bob", "../bob",
    "*", "?", "bob*", "[a-z]", "a\nb", "a\r\nSET x 1", "*3\r\n$3\r\nSET\r\n$1\r\nx\r\n$1\r\n1\r\n",
    "a\x00b", "a\x1b[2J", "'; DROP TABLE accounts; --", "bob' OR '1'='1", "$1", "%s%n", "{{7*7}}",
    "${jndi:ldap://x}", "]]--", "]] redis.call('FLUSHALL') --", "');os.execute('x", "\\", '"',
    '","account":"bob', "%00", "%7Bx%7D", "+", "-", "-1", "0", "@", "nil", "null", "true", "__index",
    "constructor", "<script>alert(1)</script>", "ä", "\u202ebob", "bob ", " bob", "bob\t", "a" * 128,
    "a" * 129, "a" * 255, "a" * 256, "",
]  # fmt: skip

ACCOUNT = re.compile(r"[A-Za-z0-9._:@+-]{1,128}", re.ASCII)
NAME = re.compile(r"[A-Za-z0-9._:@+/-]{1,64}", re.ASCII)
PRINTABLE = re.compile(r"[ -~]{1,255}", re.ASCII)


def is_text(text: str) -> bool:
    return not re.search(r"[\x00-\x1f]", text)


async def names(redis) -> set[bytes]:
    return {name async for name in redis.scan_iter(count=1000)}


@pytest.fixture
async def watched(redis, client):
    """What was written is looked at when the test is over."""
    await do(client, "grant", accountId="bob", amount=1000, bucket="plan")
    before = (await client.get(f"{CREDITS}/balance?accountId=bob")).json()
    fixed = await names(redis)
    yield
    for name in await names(redis) - fixed:
        _is_in_its_shard(name.decode())
    assert before == (await client.get(f"{CREDITS}/balance?accountId=bob")).json()


def _is_in_its_shard(name: str) -> None:
    """Whether a key is spelled by the key module, of an id that belongs to the shard in its tag."""
    shard, kind = keys.kind_of(name.encode()) or (-1, "")
    assert 0 <= shard < SHARDS, name
    rest = name.partition(f":{kind}")[2].removeprefix(":")
    if kind in ("account", "holds"):
        assert (getattr(keys, kind)(shard, rest), shard) == (name, shard_of(rest, SHARDS))
        assert ACCOUNT.fullmatch(rest)
    elif kind == "reservation":
        assert shard == shard_of_reservation(rest, SHARDS), name
    elif kind == "task":
        provider, _, task = rest.partition(":")
        assert shard == shard_of_task(provider or None, task, SHARDS), name
        assert PRINTABLE.fullmatch(task)
    elif kind == "operation":
        of, length, rest = rest.split(":", 2)
        id_, key = rest[: int(length)], rest[int(length) + 1 :]
        assert name == keys.operation(shard, of, id_, key)
        assert shard == (shard_of(id_, SHARDS) if of == "a" else shard_of_reservation(id_, SHARDS)), name
    else:
        assert kind in ("meta", "journal", "due", "aside", "lane", "refunded"), name


@pytest.mark.usefixtures("watched")
async def test_account_ids_are_refused_or_are_accounts_of_their_own(client):
    for id_ in HOSTILE:
        answer = await ask(client, "grant", accountId=id_, amount=1)
        assert (201 if ACCOUNT.fullmatch(id_) else 400) == answer.status_code, (id_, answer.text)
        for verb in ("deduct", "reserve"):
            answer = await ask(client, verb, accountId=id_, amount=1)
            assert answer.status_code in ((201, 402) if ACCOUNT.fullmatch(id_) else (400,)), (
                id_,
                answer.text,
            )
        answer = await client.get(f"{CREDITS}/balance", params={"accountId": id_})
        assert (200 if ACCOUNT.fullmatch(id_) else 400) == answer.status_code, id_
        if ACCOUNT.fullmatch(id_):
            assert id_ == answer.json()["accountId"]


@pytest.mark.usefixtures("watched")
async def test_keys_tasks_and_resources_are_refused_or_inert(client):
    await do(client, "grant", accountId="alice", amount=10_000)
    for number, text in enumerate(HOSTILE):
        good = bool(PRINTABLE.fullmatch(text))
        body = {"accountId": "alice", "amount": 1}
        answer = await ask(client, "reserve", **body, taskId=text, resourceId=text)
        assert (201 if good else 400) == answer.status_code, (text, answer.text)
        if good:
            shown = answer.json()["reservation"]
            assert (text, text) == (shown["taskId"], shown["resourceId"])
            found = await client.get("/api/images/by-task-id", params={"taskId": text})
            assert (200, shown["id"], text) == (
                found.status_code, found.json()["reservationId"], found.json()["id"],
            )  # fmt: skip
        if text.isascii() and is_text(text) and text == text.strip():
            answer = await client.post(f"{CREDITS}/deduct", json=body, headers={"idempotency-key": text})
            assert answer.status_code in (201, 400), (text, answer.text)
        answer = await ask(
            client, "batch", operations=[{"operation": "deduct", **body, "idempotencyKey": f"{number}{text}"}]
        )
        assert answer.status_code in (200, 400), (text, answer.text)


@pytest.mark.usefixtures("watched")
async def test_buckets_models_and_providers_are_refused_or_inert(client):
    for number, text in enumerate(HOSTILE):
        account = f"a{number}"
        good = bool(NAME.fullmatch(text))
        answer = await ask(client, "grant", accountId=account, amount=5, bucket=text)
        assert (201 if good else 400) == answer.status_code, (text, answer.text)
        await do(client, "grant", accountId=account, amount=5)
        answer = await ask(client, "deduct", accountId=account, amount=1, modelId=text)
        assert (201 if good else 400) == answer.status_code, (text, answer.text)
        answer = await ask(client, "reserve", accountId=account, amount=1, taskId="t", provider=text)
        assert answer.status_code in (201, 400, 409), (text, answer.text)


@pytest.mark.usefixtures("watched")
async def test_reasons_and_metadata_come_back_as_they_were_sent(client, journal):
    for text in HOSTILE:
        body = {"accountId": "alice", "amount": 1, "reason": text, "metadata": {text or "empty": text}}
        answer = await client.post(f"{CREDITS}/grant", json=body, headers={"lastro-ack": "journaled"})
        assert (201 if is_text(text) else 400) == answer.status_code, (text, answer.text)
        if is_text(text):
            made = answer.json()["transaction"]
            read = (await client.get(f"{CREDITS}/transactions/{made['id']}")).json()
            for shown in (made, read):
                assert (text, {text or "empty": text}) == (shown["reason"], shown["metadata"])


@pytest.mark.usefixtures("watched")
async def test_what_is_searched_for_is_only_searched_for(client, journal):
    for text in HOSTILE:
        for path, name in (
            ("accounts", "q"), ("transactions", "taskId"), ("transactions", "kind"),
            ("transactions", "modelId"), ("transactions", "cursor"), ("reservations", "cursor"),
            ("reservations", "modelId"), ("models", "modelId"), ("models", "cursor"),
        ):  # fmt: skip
            answer = await client.get(f"{CREDITS}/{path}", params={name: text})
            assert answer.status_code in (200, 400, 404), (path, name, text, answer.text)

"""Steps that tests of the API are made of: ask for something, and take what it answers."""

import httpx

from app.http.codes import TABLE

CREDITS = "/api/credits"
JOURNALED = {"lastro-ack": "journaled"}
"""Asks to wait for the journal."""


async def ask(client: httpx.AsyncClient, verb: str, *, key: str | None = None, **body) -> httpx.Response:
    """`POST /api/credits/<verb>`, under a key if there is one."""
    headers = {"idempotency-key": key} if key else {}
    return await client.post(f"{CREDITS}/{verb}", json=body, headers=headers)


async def do(client: httpx.AsyncClient, verb: str, *, key: str | None = None, **body) -> dict:
    """The same, and it succeeds."""
    answer = await ask(client, verb, key=key, **body)
    assert answer.is_success, answer.text
    return answer.json()


async def grant(client: httpx.AsyncClient, account: str = "alice", amount: int = 100, **more) -> dict:
    """Credits for an account, which is opened by the first."""
    return await do(client, "grant", accountId=account, amount=amount, **more)


async def reserve(client: httpx.AsyncClient, account: str = "alice", amount: int = 40, **more) -> dict:
    """Some of them set aside."""
    return await do(client, "reserve", accountId=account, amount=amount, **more)


async def is_refused(
    client: httpx.AsyncClient, verb: str, status: int, code: str, *, key: str | None = None, **body
) -> dict:
    """The same, and it is refused with this status and code. Returns the problem."""
    answer = await ask(client, verb, key=key, **body)
    assert (status, code) == (answer.status_code, answer.json().get("code")), answer.text
    return answer.json()


async def setting(client: httpx.AsyncClient, account: str = "alice", **settings) -> dict:
    """Change settings of an account."""
    answer = await client.patch(f"{CREDITS}/accounts/{account}", json=settings)
    assert 200 == answer.status_code, answer.text
    return answer.json()


async def balance(client: httpx.AsyncClient, account: str = "alice") -> dict:
    """What the account has now."""
    answer = await client.get(f"{CREDITS}/balance", params={"accountId": account})
    assert 200 == answer.status_code, answer.text
    return answer.json()


async def sums(client: httpx.AsyncClient, account: str = "alice") -> tuple[int, int, int]:
    """What is available, what is held, and the version."""
    now = await balance(client, account)
    return now["available"], now["held"], now["version"]


async def lots(client: httpx.AsyncClient, account: str = "alice") -> dict[str, int]:
    """What is available of each bucket."""
    found: dict[str, int] = {}
    for lot in (await balance(client, account))["buckets"]:
        found[lot["bucket"]] = found.get(lot["bucket"], 0) + lot["available"]
    return found


async def find(client: httpx.AsyncClient, reservation: str) -> dict:
    """A reservation as it is now."""
    answer = await client.get(f"{CREDITS}/reservations/{reservation}")
    assert 200 == answer.status_code, answer.text
    return answer.json()


def members(of: dict, *names: str) -> tuple:
    """Some members of an answer, `None` where it has not got them."""
    return tuple(of.get(name) for name in names)


def op(operation: str, **body) -> dict:
    """An operation of a batch."""
    return {"operation": operation, **body}


def deduct(amount: int, account: str = "alice", **more) -> dict:
    """The same, which spends."""
    return op("deduct", accountId=account, amount=amount, **more)


async def batch(client: httpx.AsyncClient, *operations: dict, key: str | None = None) -> list[dict]:
    """The results of a batch of which each operation is answered for itself."""
    answer = await ask(client, "batch", key=key, operations=list(operations))
    assert 200 == answer.status_code, answer.text
    assert {"results"} == answer.json().keys()
    results = answer.json()["results"]
    for each in results:
        assert (each["status"] < 300) == ("transaction" in each) == ("code" not in each)
        assert "code" not in each or TABLE[each["code"]].status == each["status"]
    return results

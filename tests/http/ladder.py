"""A request that has every fault there is, and loses one after the other.

When several things are wrong, the answer names the first in the order of the contract: authentication, scope,
shape, idempotency, existence, state, limits, funds. In a ladder every step repairs the fault of the step
above it; all faults below are still there.
"""

from typing import Any

import httpx

Step = tuple[str, dict[str, Any], int, str | None]
"""What the step repairs, and the status and code that the repaired request meets.

Beside fields of the body a repair may name `who` asks, the `path`, the `query`, `headers`, and in `done`
something to await before the request.
"""

BEGUN: list[Step] = [
    ("a stranger", {}, 401, "unauthenticated"),
    ("a key without the scope", {"who": "wrong"}, 403, "forbidden"),
    ("a query that is not taken", {"who": "bob's"}, 400, "invalid_request"),
    ("a field that is not known", {"query": ""}, 400, "invalid_request"),
    ("a field of the wrong shape", {"unknown": None}, 400, "invalid_request"),
]
"""What all bodies share."""

KEYED: list[Step] = [
    ("a key too long", {"who": "right"}, 400, "invalid_request"),
    ("a wrong Lastro-Ack", {"headers": {"idempotency-key": "used"}}, 400, "invalid_request"),
]
"""What all headers share; the last of the shape."""

USED: Step = ("a used key", {"headers": {"lastro-ack": ""}}, 422, "idempotency_mismatch")
NEW = {"headers": {"idempotency-key": ""}}
"""Repairs it."""


async def climb(
    clients: dict[str, httpx.AsyncClient], method: str, path: str, body: dict[str, Any], steps: list[Step]
) -> None:
    """Make the request again and again, each time with one more fault repaired (`None` removes a field)."""
    who, headers = "nobody", {"idempotency-key": "x" * 256, "lastro-ack": "soon"}
    query = "?surprise=1"
    for title, repairs, status, code in steps:
        repair = dict(repairs)
        if done := repair.pop("done", None):
            await done()
        who = repair.pop("who", who)
        path = repair.pop("path", path)
        query = repair.pop("query", query)
        headers = {**headers, **repair.pop("headers", {})}
        body = {name: value for name, value in (body | repair).items() if value is not None}
        sent = {name: value for name, value in headers.items() if value}
        answer = await clients[who].request(method, path + query, json=body, headers=sent)
        assert (status, code) == (answer.status_code, answer.json().get("code")), (title, answer.text)

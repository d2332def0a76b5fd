"""Examples for `/docs`: a body and an answer of every route, and a problem of every code.

A test reads every body as the route would, and holds every answer against its schema.
"""

from string import Formatter
from typing import Any

from app.http import problems
from app.http.codes import TABLE

_AT, _LATER, _NEVER = "2026-11-22T09:30:00.000Z", "2026-11-22T10:00:00.000Z", "2027-01-31T23:59:59.000Z"
_JOB = "019aac1b-4c40-7003-9c2f-5b1d3c8a7e21"
_ID = "0b6f3a52-8d35-4c5e-9f64-0f6f5a0f6d11"

_PLAN = {"bucket": "plan", "priority": 10, "expiresAt": _NEVER, "available": 49, "held": 51}
_BALANCE = {
    "accountId": "user-7", "available": 49, "held": 51, "version": 2, "overdraftLimit": 0, "status": "active",
    "buckets": [_PLAN],
}  # fmt: skip
_RESERVATION = {
    "id": _JOB, "accountId": "user-7", "status": "pending", "reserved": 51, "captured": 0, "charged": 0,
    "released": 0, "held": 51, "expiresAt": _LATER, "createdAt": _AT, "late": False, "extensions": 0,
    "taskId": "k-501", "provider": "kling", "overCapture": "reject", "onExpired": "reject", "metadata": {},
}  # fmt: skip
_CONFIRMED = _RESERVATION | {
    "status": "confirmed", "captured": 50, "released": 1, "held": 0, "settledAt": _LATER,
}  # fmt: skip
_CANCELLED = _RESERVATION | {
    "status": "cancelled", "released": 51, "held": 0, "settledAt": _LATER, "cancelCause": "failed",
}  # fmt: skip


def _moved(kind: str, amount: int, available: int, held: int, **more: Any) -> dict[str, Any]:
    """A transaction, by how it moved the plan."""
    leg = {"bucket": "plan", "expiresAt": _NEVER, "available": available, "held": held}
    return {
        "id": "3-1-17", "kind": kind, "accountId": "user-7", "amount": amount, "at": _AT, "version": 2,
        **more, "by": "key:shop", "legs": [leg] if available or held else [],
        "balance": {"available": 49, "held": 51},
    }  # fmt: skip


_OF_JOB = {"reservationId": _JOB, "taskId": "k-501"}
_GRANTED = _moved("granted", 100, 100, 0)
_DEDUCTED = _moved("deducted", 6, -6, 0, modelId="image-small")
_RESERVED = _moved("reserved", 51, -51, 51, **_OF_JOB)
_ACCOUNT = {
    "accountId": "user-7", "available": 49, "held": 51, "version": 2, "overdraftLimit": 0, "status": "active",
    "lowBalance": 10,
}  # fmt: skip
_RATE = {"modelId": "lip-sync", "version": 3, "base": "1", "price": "0.25", "by": "key:operator", "at": _AT}
_RUN = {"id": "41", "startedAt": _AT, "status": "equal", "accounts": 1200, "drift": [], "finishedAt": _LATER}
_CLEANED = {"expired": 2, "old": 1200, "durationMs": 184}
_CLEANUP = {
    "enabled": True, "running": False, "intervalSeconds": 900, "lastRunAt": _AT, "nextRunInSeconds": 870,
    "lastResult": _CLEANED,
}  # fmt: skip
_ENDPOINT = {
    "id": _ID, "url": "https://shop.example/lastro", "events": ["balance.low"], "enabled": True,
    "by": "key:operator", "createdAt": _AT,
}  # fmt: skip
_EVENT = {
    "id": _ID, "type": "balance.low", "accountId": "user-7", "at": _AT,
    "data": {"accountId": "user-7", "available": 9, "threshold": 10},
    "deliveries": [
        {"endpointId": _ID, "state": "delivered", "attempts": 1, "lastAttemptAt": _AT, "status": 200}
    ],
}  # fmt: skip
_DELIVERY = {
    "id": _ID, "provider": "kling", "status": "verified", "outcome": "succeeded", "providerStatus": "succeed",
    "taskId": "k-501", "reservationId": _JOB, "accountId": "user-7", "transactionId": "3-1-18",
    "deliveries": 1, "receivedAt": _AT, "lastAt": _AT, "settledAt": _AT,
}  # fmt: skip


def _settled(reservation: dict[str, Any], transaction: dict[str, Any]) -> dict[str, Any]:
    return {"reservation": reservation, "transaction": transaction, "balance": _BALANCE}


def _page(*data: Any) -> dict[str, Any]:
    return {"data": list(data), "nextCursor": None, "hasMore": False}


BODIES: dict[str, Any] = {
    "grant": {"accountId": "user-7", "amount": 100, "bucket": "plan", "priority": 10, "expiresAt": _NEVER},
    "deduct": {"accountId": "user-7", "amount": 6, "modelId": "image-small"},
    "reserve": {"accountId": "user-7", "amount": 51, "taskId": "k-501", "provider": "kling"},
    "confirm": {"taskId": "k-501", "provider": "kling", "amount": 50},
    "cancel": {"taskId": "k-501", "provider": "kling", "cause": "failed"},
    "extend": {"reservationId": _JOB, "ttlSeconds": 3600},
    "bind": {"taskId": "k-501", "provider": "kling"},
    "refund": {"transactionId": "3-1-17", "amount": 4, "reason": "blurred"},
    "adjust": {"accountId": "user-7", "amount": -5, "short": "take", "reason": "credited twice"},
    "batch": {"operations": [{"operation": "deduct", "accountId": "user-7", "amount": 6}]},
    "configure": {"overdraftLimit": 50, "lowBalance": 10},
    "putModel": {"modelId": "lip-sync", "base": 1, "price": "0.25"},
    "quote": {"modelId": "lip-sync", "units": "12.5"},
    "reconcile": {},
    "cleanup": {},
    "autoCleanup": {"action": "start", "intervalSeconds": 900},
    "replayWebhook": {},
    "createEventEndpoint": {"url": "https://shop.example/lastro", "events": ["balance.low"]},
    "changeEventEndpoint": {"enabled": False},
    "replayEvent": {},
}
"""What may be sent to the route of this name."""

ANSWERS: dict[str, Any] = {
    "grant": {"transaction": _GRANTED, "balance": _BALANCE},
    "deduct": {"transaction": _DEDUCTED, "balance": _BALANCE},
    "reserve": _settled(_RESERVATION, _RESERVED),
    "confirm": _settled(_CONFIRMED, _moved("confirmed", 50, 1, -51, **_OF_JOB)),
    "cancel": _settled(_CANCELLED, _moved("cancelled", 51, 51, -51, **_OF_JOB)),
    "extend": _settled(_RESERVATION | {"extensions": 1}, _moved("extended", 0, 0, 0, **_OF_JOB)),
    "bind": _settled(_RESERVATION, _moved("bound", 0, 0, 0, **_OF_JOB)),
    "refund": {"transaction": _moved("refunded", 4, 4, 0, refundOf="3-1-12"), "balance": _BALANCE},
    "adjust": {
        "transaction": _moved("adjusted", -5, -5, 0, reason="why"), "balance": _BALANCE, "shortfall": 0,
    },
    "batch": {
        "results": [{"status": 201, "replayed": False, "transaction": _DEDUCTED, "balance": _BALANCE}]
    },
    "balance": _BALANCE,
    "reservation": _RESERVATION,
    "reservations": _page(_RESERVATION),
    "byTaskId": {
        "id": "video-31", "taskId": "k-501", "reservationId": _JOB, "accountId": "user-7",
        "status": "pending",
    },
    "transactions": _page(_RESERVED, _GRANTED) | {"version": 2},
    "transaction": _RESERVED,
    "statement": {
        "accountId": "user-7", "from": "2026-11-01T00:00:00.000Z", "to": _LATER,
        "opening": {"available": 0, "held": 0, "version": 0}, "entries": [_GRANTED],
        "closing": {"available": 100, "held": 0, "version": 1},
    },
    "account": _ACCOUNT,
    "accounts": _page(_ACCOUNT),
    "configure": _ACCOUNT,
    "models": _page(_RATE),
    "putModel": _RATE,
    "quote": {
        "modelId": "lip-sync", "units": "12.5", "credits": 5, "version": 3, "base": "1", "price": "0.25",
    },
    "alerts": {
        "data": [
            {
                "id": "7", "rule": "backlog", "level": "warning", "state": "firing", "since": _AT,
                "value": 120000, "threshold": 100000, "message": "120,000 entries wait for PostgreSQL.",
            },
        ],
    },
    "monitoring": {
        "asOf": _LATER, "lagSeconds": 0.8, "period": "day", "since": _AT,
        "users": [
            {
                "accountId": "user-7", "spent": 30, "refunded": 0, "transactions": 3, "reservations": 1,
                "lastActivityAt": _AT,
            },
        ],
    },
    "reconciliations": {"data": [_RUN]},
    "reconcile": _RUN | {"status": "running"},
    "cleanup": _CLEANED,
    "cleanupCount": {"expired": 0, "old": 1200},
    "autoCleanup": _CLEANUP,
    "autoCleanupStatus": _CLEANUP,
    "webhook": {"status": "verified"},
    "webhookToo": {"status": "verified"},
    "callback": {"status": "verified"},
    "webhooks": _page(_DELIVERY),
    "webhookById": _DELIVERY | {"payload": {"task_status": "succeed"}},
    "replayWebhook": _DELIVERY,
    "events": _page(_EVENT),
    "replayEvent": _EVENT,
    "eventEndpoints": {"data": [_ENDPOINT]},
    "createEventEndpoint": _ENDPOINT | {"secret": "whsec_..."},
    "changeEventEndpoint": _ENDPOINT | {"enabled": False},
    "removeEventEndpoint": _ENDPOINT,
    "live": {"status": "live"},
    "ready": {"status": "ready", "degraded": []},
}  # fmt: skip
"""What the route of this name may answer."""

_FACTS: dict[str, int | str] = {
    "required": 51, "available": 20, "held": 40, "debt": 30, "refunded": 2, "left": 4, "limit": 64,
    "what": "lots", "expires_at": _LATER, "latest": _AT, "why": "`amount`: Expected `int` >= 1.",
}  # fmt: skip


def problem(code: str) -> dict[str, Any]:
    """What a problem of this code may say."""
    named = {name for _, name, _, _ in Formatter().parse(TABLE[code].detail) if name}
    return problems.body(code, {name: _FACTS[name] for name in named})


def added(document: dict[str, Any]) -> dict[str, Any]:
    """The document with examples where they belong."""
    for operations in document["paths"].values():
        for operation in operations.values():
            name = operation["operationId"]
            for of in operation.get("requestBody", {}).get("content", {}).values():
                of["examples"] = {"usual": {"value": BODIES[name]}}
            for status, response in operation["responses"].items():
                for media_type, of in response.get("content", {}).items():
                    if media_type == "application/problem+json":
                        codes = [code for code in TABLE if f"`{code}`" in response["description"]]
                        of["examples"] = {code: {"$ref": f"#/components/examples/{code}"} for code in codes}
                    elif status.startswith("2") and media_type == "application/json":
                        of["examples"] = {"usual": {"value": ANSWERS[name]}}
    examples = {code: {"value": problem(code)} for code in TABLE}
    return document | {"components": document["components"] | {"examples": examples}}

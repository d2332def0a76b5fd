"""What each sender would send of a task, to try a deployment without it. Signs and sends nothing."""

import hashlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import msgspec
from msgspec import Struct

from app.webhooks.event import Outcome

_encode = msgspec.json.Encoder(decimal_format="number").encode
_RESULT = "https://files.example/result"
_WHY = "simulated failure"


class NeverSent(ValueError):
    """No such thing comes from this sender; the text says why."""


class Told(Struct, frozen=True, kw_only=True):
    """What is to be told of a task.

    Args:
        outcome: How it stands.
        task: Its id at the provider; of Stripe the payment intent.
        reservation: Our own id, told where the provider tells it.
        units: What was used, told where the provider tells it.
        amount: Credits: of `generic` to be confirmed, of Stripe bought.
        account: Who bought them.
        at: Unix time in seconds.
    """

    outcome: Outcome
    task: str
    at: int
    reservation: str | None = None
    units: Decimal | None = None
    amount: int | None = None
    account: str | None = None


def body(sender: str, told: Told) -> bytes:
    """What is sent. Raises `NeverSent`."""
    if told.units is not None and sender not in _TELL_UNITS:
        raise NeverSent(
            f"{sender} does not tell what was used; of {', '.join(_TELL_UNITS)} --units are known"
        )
    if told.amount is not None and sender not in _TELL_AMOUNTS:
        raise NeverSent(f"{sender} knows no credits; {' and '.join(_TELL_AMOUNTS)} do")
    if told.account is not None and sender != "stripe":
        raise NeverSent(f"{sender} knows no accounts; stripe does")
    return _encode(_BODIES[sender](told))


def _word(sender: str, told: Told, **words: str) -> str:
    if told.outcome not in words:
        raise NeverSent(f"{sender} tells of endings only")
    return words[told.outcome]


def _replicate(told: Told) -> dict[str, Any]:
    word = _word("replicate", told, succeeded="succeeded", failed="failed", progress="processing")
    ended = told.outcome != "progress"
    return {
        "id": told.task,
        "status": word,
        "output": [f"{_RESULT}.png"] if told.outcome == "succeeded" else None,
        "error": _WHY if told.outcome == "failed" else None,
        "metrics": {"predict_time": told.units or Decimal("1.5")} if ended else {},
    }


def _fal(told: Told) -> dict[str, Any]:
    word = _word("fal", told, succeeded="OK", failed="ERROR")
    common = {"request_id": told.task, "gateway_request_id": told.task, "status": word}
    if told.outcome == "failed":
        return common | {"error": _WHY, "payload": {"detail": _WHY}}
    return common | {"payload": {"images": [{"url": f"{_RESULT}.png"}], "seed": 1}}


def _bfl(told: Told) -> dict[str, Any]:
    word = _word("bfl", told, succeeded="Ready", failed="Error", progress="Pending")
    common = {"id": told.task, "status": word, "timestamp": datetime.fromtimestamp(told.at, UTC)}
    if told.outcome == "succeeded":
        return common | {"result": {"sample": f"{_RESULT}.jpeg", "prompt": "a cat", "seed": 1}}
    return common | ({"error": "simulated", "message": _WHY} if told.outcome == "failed" else {})


def _kling(told: Told) -> dict[str, Any]:
    word = _word("kling", told, succeeded="succeeded", failed="failed", progress="processing")
    units = [{"charge_type": "unit", "amount": str(told.units)}] if told.units is not None else []
    return {
        "id": told.task,
        "status": word,
        "message": _WHY if told.outcome == "failed" else "",
        "external_id": told.reservation or "",
        "create_time": told.at * 1000,
        "update_time": told.at * 1000,
        "billing": units,
    }


def _sync(told: Told) -> dict[str, Any]:
    word = _word("sync", told, succeeded="COMPLETED", failed="FAILED", progress="PROCESSING")
    common: dict[str, Any] = {"id": told.task, "status": word, "model": "lipsync-2"}
    if told.outcome == "succeeded":
        return common | {"outputUrl": f"{_RESULT}.mp4", "outputDuration": told.units or Decimal("1.5")}
    return common | ({"error": _WHY, "error_code": "simulated"} if told.outcome == "failed" else {})


def _heygen(told: Told) -> dict[str, Any]:
    word = _word("heygen", told, succeeded="avatar_video.success", failed="avatar_video.fail")
    about = {"url": f"{_RESULT}.mp4"} if told.outcome == "succeeded" else {"msg": _WHY}
    return {
        "event_id": f"evt_{told.task}",
        "event_type": word,
        "event_data": {"video_id": told.task, "callback_id": told.reservation, **about},
    }


def _luma(told: Told) -> dict[str, Any]:
    word = _word("luma", told, succeeded="completed", failed="failed", progress="dreaming")
    return {
        "id": told.task,
        "state": word,
        "failure_reason": _WHY if told.outcome == "failed" else None,
        "assets": {"video": f"{_RESULT}.mp4"} if told.outcome == "succeeded" else None,
    }


def _generic(told: Told) -> dict[str, Any]:
    named = {"reservationId": told.reservation} if told.reservation else {"taskId": told.task}
    units = {"units": told.units} if told.units is not None else {}
    amount = {"amount": told.amount} if told.amount is not None else {}
    return {**named, "status": told.outcome, **units, **amount}


def _stripe(told: Told) -> dict[str, Any]:
    """Paid; not yet paid; paid back."""
    if not told.account or told.amount is None:
        raise NeverSent("a payment of Stripe needs --account and --amount, the credits that were bought")
    kind = "charge.refunded" if told.outcome == "failed" else "checkout.session.completed"
    about: dict[str, Any] = {"id": f"cs_{told.task}", "object": "checkout.session"}
    if told.outcome == "failed":
        about = {"id": f"ch_{told.task}", "object": "charge", "amount": 1000, "amount_refunded": 1000}
    else:
        about |= {
            "payment_status": "paid" if told.outcome == "succeeded" else "unpaid",
            "client_reference_id": told.account,
            "metadata": {"lastro_credits": str(told.amount)},
        }
    return {
        "id": "evt_" + hashlib.sha256(f"{kind} {told.outcome} {told.task}".encode()).hexdigest()[:24],
        "object": "event",
        "type": kind,
        "created": told.at,
        "data": {"object": about | {"payment_intent": told.task}},
    }


_BODIES: Mapping[str, Callable[[Told], dict[str, Any]]] = MappingProxyType(
    {
        "replicate": _replicate,
        "fal": _fal,
        "bfl": _bfl,
        "kling": _kling,
        "sync": _sync,
        "heygen": _heygen,
        "luma": _luma,
        "generic": _generic,
        "stripe": _stripe,
    }
)
_TELL_UNITS = ("replicate", "kling", "sync", "generic")
_TELL_AMOUNTS = ("generic", "stripe")
SENDERS = tuple(_BODIES)
"""All that can be simulated."""

"""What your own workers say: `{taskId or reservationId, status, amount?}`."""

from typing import Any

from app.ledger.credits import CREDITS_MAX
from app.webhooks import payload
from app.webhooks.event import Delivery, Event, Outcome, Unreadable

_WORDS: dict[str, Outcome] = {"succeeded": "succeeded", "failed": "failed", "progress": "progress"}


def read(delivery: Delivery) -> Event:
    """A job of one's own, by its task id or by our reservation's."""
    body = payload.decoded(delivery.body)
    outcome, word = payload.ending(body, _WORDS, "status")
    if ("taskId" in body) == ("reservationId" in body):
        raise Unreadable("either `taskId` or `reservationId` should be there")
    return Event(
        provider="generic",
        task=payload.identity(body, "taskId") if "taskId" in body else None,
        reservation=_reservation(body) if "reservationId" in body else None,
        outcome=outcome,
        status=word,
        amount=_amount(body) if "amount" in body else None,
        payload=body,
    )


def _reservation(body: dict[str, Any]) -> str:
    named = payload.reservation(body["reservationId"])
    if named is None:
        raise Unreadable("`reservationId` should be the id of a reservation, as `reserve` answered it")
    return named


def _amount(body: dict[str, Any]) -> int:
    amount = body["amount"]
    if type(amount) is not int or not 0 <= amount <= CREDITS_MAX:
        raise Unreadable(f"`amount` should be a whole number of credits, 0 to {CREDITS_MAX}")
    if body["status"] != "succeeded":
        raise Unreadable("`amount` belongs to the status succeeded")
    return amount

"""Sync's lip-sync jobs."""

from app.webhooks import payload
from app.webhooks.event import Delivery, Event, Outcome

_WORDS: dict[str, Outcome] = {
    "PENDING": "progress",
    "PROCESSING": "progress",
    "COMPLETED": "succeeded",
    "FAILED": "failed",
    "REJECTED": "failed",
    "CANCELED": "failed",
    "TIMED_OUT": "failed",
}


def read(delivery: Delivery) -> Event:
    """A job. What is billed is in `/outputDuration`, in seconds."""
    body = payload.decoded(delivery.body)
    outcome, word = payload.ending(body, _WORDS, "status")
    return Event(
        provider="sync",
        task=payload.identity(body, "id"),
        outcome=outcome,
        status=word,
        reason=payload.reason(outcome, body.get("error"), body.get("error_code"), body.get("errorCode")),
        payload=body,
    )

"""Runway's tasks. Runway calls nobody back: it is asked, see `asking`."""

from app.webhooks import payload
from app.webhooks.event import Delivery, Event, Outcome

_WORDS: dict[str, Outcome] = {
    "PENDING": "progress",
    "THROTTLED": "progress",
    "RUNNING": "progress",
    "SUCCEEDED": "succeeded",
    "FAILED": "failed",
    "CANCELLED": "failed",
}


def read(delivery: Delivery) -> Event:
    """A task, as Runway answers it."""
    body = payload.decoded(delivery.body)
    outcome, word = payload.ending(body, _WORDS, "status")
    return Event(
        provider="runway",
        task=payload.identity(body, "id"),
        outcome=outcome,
        status=word,
        reason=payload.reason(outcome, body.get("failure"), body.get("failureCode")),
        payload=body,
    )

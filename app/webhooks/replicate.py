"""Replicate's predictions."""

from app.webhooks import payload
from app.webhooks.event import Delivery, Event, Outcome

_WORDS: dict[str, Outcome] = {
    "starting": "progress",
    "processing": "progress",
    "succeeded": "succeeded",
    "failed": "failed",
    "canceled": "failed",
    "aborted": "failed",
}


def read(delivery: Delivery) -> Event:
    """A prediction. What it cost to run is in `/metrics/predict_time`, in seconds."""
    body = payload.decoded(delivery.body)
    outcome, word = payload.ending(body, _WORDS, "status")
    return Event(
        provider="replicate",
        task=payload.identity(body, "id"),
        outcome=outcome,
        status=word,
        reason=payload.reason(outcome, body.get("error")),
        payload=body,
    )

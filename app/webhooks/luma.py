"""Luma's generations. Luma signs nothing: see `schemes.UNSIGNED`."""

from app.webhooks import payload
from app.webhooks.event import Delivery, Event, Outcome

_WORDS: dict[str, Outcome] = {
    "queued": "progress",
    "dreaming": "progress",
    "completed": "succeeded",
    "failed": "failed",
}


def read(delivery: Delivery) -> Event:
    """A generation, which Luma sends whenever it changes."""
    body = payload.decoded(delivery.body)
    outcome, word = payload.ending(body, _WORDS, "state")
    return Event(
        provider="luma",
        task=payload.identity(body, "id"),
        outcome=outcome,
        status=word,
        reason=payload.reason(outcome, body.get("failure_reason")),
        payload=body,
    )

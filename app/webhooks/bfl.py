"""Black Forest Labs' generations."""

from app.webhooks import payload
from app.webhooks.event import Delivery, Event, Outcome

_WORDS: dict[str, Outcome] = {
    "Pending": "progress",
    "Ready": "succeeded",
    "Error": "failed",
    "Request Moderated": "failed",  # nobody gets a picture
    "Content Moderated": "failed",
}


def read(delivery: Delivery) -> Event:
    """A generation. Its picture can be fetched for 10 minutes."""
    body = payload.decoded(delivery.body)
    outcome, word = payload.ending(body, _WORDS, "status")
    return Event(
        provider="bfl",
        task=payload.identity(body, "id"),
        outcome=outcome,
        status=word,
        reason=payload.reason(outcome, body.get("message"), body.get("error"), word),
        payload=body,
    )

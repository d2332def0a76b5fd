"""Kling's tasks, in its newer words and in its older ones."""

from app.webhooks import payload
from app.webhooks.event import Delivery, Event, Outcome

_WORDS: dict[str, Outcome] = {
    "submitted": "progress",
    "processing": "progress",
    "succeeded": "succeeded",
    "succeed": "succeeded",
    "failed": "failed",
}


def read(delivery: Delivery) -> Event:
    """A task. `external_id`, once `task_info.external_task_id`, is the caller's own id: ours, perhaps."""
    body = payload.decoded(delivery.body)
    outcome, word = payload.ending(body, _WORDS, "status", "task_status")
    ours = body.get("external_id") or payload.member(body, "task_info").get("external_task_id")
    return Event(
        provider="kling",
        task=payload.identity(body, "id", "task_id"),
        reservation=payload.reservation(ours),
        outcome=outcome,
        status=word,
        reason=payload.reason(outcome, body.get("message"), body.get("task_status_msg")),
        payload=body,
    )

"""HeyGen's videos."""

from app.webhooks import payload
from app.webhooks.event import Delivery, Event, Outcome, Unreadable

_ENDINGS: dict[str, Outcome] = {"avatar_video.success": "succeeded", "avatar_video.fail": "failed"}


def read(delivery: Delivery) -> Event:
    """A video that ended, or anything else that HeyGen tells its customers, which is noted.

    Its id and time in the headers are not signed and so not looked at.
    """
    body = payload.decoded(delivery.body)
    kind = body.get("event_type")
    if not isinstance(kind, str):
        raise Unreadable("`event_type` should be text")
    about = payload.member(body, "event_data")
    if kind not in _ENDINGS:
        return Event(provider="heygen", outcome="progress", status=kind, payload=body)
    return Event(
        provider="heygen",
        task=payload.identity(about, "video_id"),
        reservation=payload.reservation(about.get("callback_id")),
        outcome=_ENDINGS[kind],
        status=kind,
        reason=payload.reason(_ENDINGS[kind], about.get("msg")),
        payload=body,
    )

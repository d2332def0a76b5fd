"""The JSON that providers send, and how its fields are read. All that is wrong with it is `Unreadable`."""

import re
from contextlib import suppress
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from app.ledger.shards import SHARDS_MAX, shard_of_reservation
from app.webhooks.event import Outcome, Unreadable

REASON_MAX = 500
_DIGITS_MAX = 400
_ID = re.compile(r"[ -~]{1,255}")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


def _number(text: str) -> Decimal:
    """A number that may be computed with: one of a billion digits takes 10 bytes to write."""
    with suppress(InvalidOperation):
        number = Decimal(text)
        if abs(number.adjusted()) <= _DIGITS_MAX:
            return number
    raise ValueError(f"a number is out of range ({_DIGITS_MAX} digits before or after the point)")


_decode = msgspec.json.Decoder(float_hook=_number).decode


def decoded(body: bytes) -> dict[str, Any]:
    """The object that a body is."""
    try:
        value = _decode(body)
    except RecursionError:
        raise Unreadable("the body is nested too deeply") from None
    except (msgspec.MsgspecError, ValueError) as error:
        raise Unreadable(f"the body is no JSON: {error}") from None
    if not isinstance(value, dict):
        raise Unreadable("the body should be a JSON object")
    return value


def member(of: dict[str, Any], name: str) -> dict[str, Any]:
    """The object `name`; an empty one where it is missing."""
    value = of.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Unreadable(f"`{name}` should be an object")
    return value


def identity(of: dict[str, Any], *names: str) -> str:
    """An id, under the first of these names that is there."""
    name = next((name for name in names if of.get(name) is not None), names[0])
    value = of.get(name)
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise Unreadable(f"`{name}` should be an id, 1 to 255 printable ASCII characters")
    return value


def ending(of: dict[str, Any], words: dict[str, Outcome], *names: str) -> tuple[Outcome, str]:
    """What the word under the first of these names means, and the word itself.

    A word that is not known is refused aloud: it might be an ending, and nobody would hear of it.
    """
    name = next((name for name in names if of.get(name) is not None), names[0])
    word = of.get(name)
    if not isinstance(word, str) or word not in words:
        raise Unreadable(f"`{name}` should be one of {', '.join(words)}")
    return words[word], word


def reason(outcome: Outcome, *candidates: object) -> str | None:
    """The first of these that is text, fit to be kept; none where nothing failed."""
    for each in candidates if outcome == "failed" else ():
        if isinstance(each, str) and (text := _CONTROLS.sub(" ", each).strip()):
            return text[:REASON_MAX]
    return None


def reservation(value: object) -> str | None:
    """Our own id, if it has the shape of one. A shop may give providers ids of its own in the same place."""
    if isinstance(value, str) and shard_of_reservation(value.lower(), SHARDS_MAX) is not None:
        return value.lower()
    return None

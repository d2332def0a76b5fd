"""How many units a provider says were used: a number at a place of its payload (JSON pointer, RFC 6901)."""

import re
from collections.abc import Mapping
from decimal import ROUND_CEILING, Context, Decimal, InvalidOperation
from typing import Any

from app.rates import PLACES_MAX, canonical

_POINTER = re.compile(r"(?:/(?:[^~/]|~[01])*)+")
_INDEX = re.compile(r"0|[1-9][0-9]{0,8}", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,64}(?:\.[0-9]{1,64})?", re.ASCII)
_STEP = Decimal(1).scaleb(-PLACES_MAX)
_ROOM = Context(prec=1000)


def pointers(text: str, providers: frozenset[str]) -> dict[str, str]:
    """`replicate=/metrics/predict_time,sync=/outputDuration` by provider.

    Raises:
        ValueError: Says what would be right.
    """
    found: dict[str, str] = {}
    for part in filter(None, map(str.strip, text.split(","))):
        provider, _, pointer = (each.strip() for each in part.partition("="))
        if provider not in providers or not _POINTER.fullmatch(pointer):
            raise ValueError(
                f"{part[:80]!r} should be <provider>=/<place in the payload>,"
                f" the provider one of {', '.join(sorted(providers))}"
            )
        if provider in found:
            raise ValueError(f"{provider} is there twice")
        found[provider] = pointer
    return found


def units_at(payload: Any, pointer: str) -> str | None:
    """The number there in its shortest form, rounded up to as many places as units have.

    `None` where there is none, or none that units could be.
    """
    value = _at(payload, pointer)
    if isinstance(value, bool) or not isinstance(value, int | Decimal | str):
        return None
    if isinstance(value, str):
        if not _NUMBER.fullmatch(value):
            return None
        value = Decimal(value)
    try:
        rounded = Decimal(value).quantize(_STEP, ROUND_CEILING, _ROOM)
        return canonical(format(rounded.copy_abs() if rounded.is_zero() else rounded, "f"))
    except (InvalidOperation, ValueError):
        return None


def _at(payload: Any, pointer: str) -> Any:
    for part in pointer[1:].split("/"):
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(payload, Mapping):
            payload = payload.get(name)
        elif isinstance(payload, list) and _INDEX.fullmatch(name) and int(name) < len(payload):
            payload = payload[int(name)]
        else:
            return None
    return payload

"""Where a page ended, as a text: the next page begins there, under the same filter only.

A cursor says nothing to whom it is shown: it has the position and a digest of the filter.
"""

import base64
import hashlib
from collections.abc import Sequence
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta, Struct

from app.reports import InvalidCursor

T = TypeVar("T", bound=Sequence[int | str])

_CURSOR_MAX = 512

Digest = Annotated[bytes, Meta(min_length=8, max_length=8)]


def write(which: Struct, position: Sequence[int | str]) -> str:
    """The cursor behind `position` under the filter `which`."""
    packed = msgspec.msgpack.encode((_digest(which), position))
    return base64.urlsafe_b64encode(packed).rstrip(b"=").decode()


def read(which: Struct, cursor: str, shape: type[T]) -> T:
    """The position in `cursor`; `shape` is a type of tuples with the bounds of each value.

    Raises:
        InvalidCursor: It was not written for this filter, or not by `write`.
    """
    try:
        text = cursor[: _CURSOR_MAX + 1].encode("ascii")
        packed = base64.b64decode(text + b"=" * (-len(text) % 4), b"-_", validate=True)
        digest, position = _decode(packed, shape)
        if digest == _digest(which) and write(which, position) == cursor:
            return position
    except (ValueError, msgspec.MsgspecError) as error:
        raise InvalidCursor(f"not a cursor: {error}") from error
    raise InvalidCursor("not a cursor of this filter")


def _decode(packed: bytes, shape: type[T]) -> tuple[bytes, T]:
    found: tuple[bytes, T] = msgspec.msgpack.decode(packed, type=tuple[Digest, shape])  # type: ignore[valid-type]
    return found


def _digest(which: Struct) -> bytes:
    return hashlib.blake2b(msgspec.json.encode(which), digest_size=8).digest()

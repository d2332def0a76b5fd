"""Moments of Redis' clock, as PostgreSQL has them."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@lru_cache(maxsize=8192)
def at(ms: int) -> datetime:
    """A moment of Redis' clock, exactly.

    Raises:
        OverflowError: Not a moment that a database can hold.
    """
    return _EPOCH + timedelta(milliseconds=ms)

"""What is wrong with a stream, and where: which of its calls are sound, and how the rest is named."""

from collections.abc import Sequence

import asyncpg

from app.ledger.stream import Broken, Line, Piece, first_call, lines, nonce_of

POISONOUS = (Broken, asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, OverflowError)
"""What an entry can do to a commit, as against what can befall a connection."""


class Suspicious(Exception):
    """Something in a piece of a stream cannot be journaled; the text says what."""

    def __init__(self, piece: Piece, why: str) -> None:
        super().__init__(why)
        self.piece = piece


def sound_before(piece: Piece, cursor: int, link: str, error: Broken) -> list[Line]:
    """The first call of a piece with a broken entry in it, if that call is known to be whole: the broken one
    comes later, or tells that it is of another call.
    """
    sound = piece.entries[: max(0, error.sequence - cursor - 1)]
    if not sound:
        return []
    found = first_call(lines(piece._replace(entries=sound), cursor, link))
    is_last = len(found) == len(sound)
    return [] if is_last and nonce_of(piece.entries[len(sound)]) in (None, found[-1].entry.nonce) else found


def sentence(error: Exception, found: Sequence[Line]) -> str:
    """What PostgreSQL did not take of these lines."""
    if isinstance(error, Broken):
        return str(error)
    first, last = found[0].sequence, found[-1].sequence
    which = f"Entry {first}" if first == last else f"One of the entries {first} to {last}"
    return f"{which} is not what PostgreSQL takes: {error}."

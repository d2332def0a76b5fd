"""Reads a shard's stream for whoever keeps the journal, and proves that it is one history.

Contiguous numbers do not prove that: a Redis that went back and took new calls has them too. Each call names
the call before it on its shard, so a stream goes on from where a journal stands only if its links do.
"""

from typing import Any, NamedTuple

import msgspec
from msgspec import Struct
from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError

from app.ledger import keys, scripts
from app.ledger.entries import FORMAT, Entry
from app.ledger.running import at_once, run

RawEntry = tuple[bytes, dict[bytes, bytes]]
"""As XRANGE gives it: id and fields."""

_decode = msgspec.json.Decoder(Entry).decode


class ReadRefused(Exception):
    """This Redis is not, or no longer, the one that was admitted. The text says why."""


class Broken(Exception):
    """An entry that cannot be in this history, or that nobody can read. It must be looked at by people."""

    def __init__(self, sequence: int, why: str) -> None:
        super().__init__(f"Entry {sequence} {why}")
        self.sequence = sequence


class Admitted(NamedTuple):
    """A shard, and the number under which PostgreSQL has its Redis admitted.

    `though_fenced`: whether it is read also while it refuses, which whoever fenced it may allow.
    """

    ledger: str
    shard: int
    incarnation: int
    though_fenced: bool = False


class Keep(NamedTuple):
    """What stays in a stream though it is journaled: entries younger than `ms`, at most about `bytes`.

    At most `trim_max` go at once, so that Redis is not held up.
    """

    ms: int
    bytes: int
    trim_max: int = 10_000


class Piece(NamedTuple):
    """What one look at a stream gave.

    `sequence` is the shard's last; `journaled` the last that it believes to be in PostgreSQL.
    """

    sequence: int
    journaled: int
    entries: list[RawEntry]


class Line(NamedTuple):
    """An entry with its exact text, and the exact text of its notes."""

    sequence: int
    entry: Entry
    text: bytes
    notes: bytes | None


async def read(redis: Redis, admitted: Admitted, cursor: int, entries_max: int) -> Piece:
    """The entries after `cursor`, from a server that is admitted.

    Raises:
        ReadRefused: It is not.
    """
    script = scripts.load("read")
    look = _Look(admitted, cursor, entries_max)
    verdict, entries = await _read(redis, look, "EVALSHA", script.sha)
    if isinstance(verdict, NoScriptError):
        verdict, entries = await _read(redis, look, "EVAL", script.text)
    if isinstance(verdict, RedisError):
        raise verdict
    if verdict[0] != b"ok":
        raise ReadRefused(verdict[1].decode())
    if isinstance(entries, RedisError):
        raise ReadRefused(f"the journal of the shard: {entries}")
    return Piece(int(verdict[1]), int(verdict[2]), entries)


class _Look(NamedTuple):
    admitted: Admitted
    cursor: int
    entries_max: int


async def _read(redis: Redis, look: _Look, command: str, script: str) -> tuple[Any, Any]:
    """What the script and XRANGE answer in one moment; either may be an error."""
    ledger, shard, incarnation, though_fenced = look.admitted
    meta, journal = keys.meta(shard), keys.journal(shard)
    verdict, entries = await at_once(
        redis,
        meta,
        (command, script, 1, meta, ledger, incarnation, int(though_fenced)),
        ("XRANGE", journal, f"{look.cursor + 1}-0", "+", "COUNT", look.entries_max),
    )
    return verdict, entries


async def tell(redis: Redis, admitted: Admitted, cursor: int, journaled_bytes: int, keep: Keep | None) -> int:
    """Tell a shard that PostgreSQL has everything up to `cursor`, and trim behind it. Returns how many went.

    Args:
        redis: The server that the entries were read from; another one refuses, and nothing is lost by that.
        admitted: As when the cursor was committed.
        cursor: Committed for certain: an outcome that is unknown must be looked up first.
        journaled_bytes: Of all entries and notes up to the cursor.
        keep: `None`: everything stays.
    """
    names = [keys.meta(admitted.shard), keys.journal(admitted.shard)]
    arguments: list[str | int] = [admitted.ledger, admitted.incarnation, cursor, journaled_bytes]
    arguments += ["", "", ""] if keep is None else keep
    arguments.append(int(admitted.though_fenced))
    reply = await run(redis, scripts.load("trim"), names, arguments)
    return int(reply[1]) if reply[0] == b"told" else 0


def lines(piece: Piece, cursor: int, link: str) -> list[Line]:
    """Decode a piece and prove that it follows the entry at `cursor`, whose call was `link`.

    Raises:
        Broken: The first entry that does not.
    """
    if piece.sequence < cursor:
        raise Broken(piece.sequence + 1, f"is in the journal, but Redis ends at {piece.sequence}.")
    if piece.sequence > cursor and not piece.entries:
        raise Broken(
            cursor + 1, f"is missing: the stream ends, but the shard has counted to {piece.sequence}."
        )
    found: list[Line] = []
    sequence, previous = cursor, link
    for raw in piece.entries:
        sequence += 1
        line = _line(sequence, *raw)
        nonce, previous_nonce = line.entry.nonce, line.entry.previous_nonce
        if previous_nonce is None and (nonce != previous or not found):
            raise Broken(sequence, f"neither belongs to call {previous} before it nor begins another.")
        if previous_nonce is not None and previous_nonce != previous:
            raise Broken(
                sequence, f"follows call {previous_nonce}, but call {previous} stands before it: a fork."
            )
        previous = nonce
        found.append(line)
    return found


def _line(sequence: int, entry_id: bytes, fields: dict[bytes, bytes]) -> Line:
    if entry_id != b"%d-0" % sequence:
        raise Broken(sequence, f"is missing: the stream goes on with {entry_id.decode()}.")
    text, notes = fields.get(b"entry"), fields.get(b"notes")
    if text is None or len(fields) != (1 if notes is None else 2):
        raise Broken(sequence, "has other fields than an entry and its notes.")
    try:
        entry = _decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Broken(sequence, f"cannot be read: {error}.") from error
    if entry.format != FORMAT:
        raise Broken(sequence, f"has format {entry.format}; this release reads {FORMAT}.")
    return Line(sequence, entry, text, notes)


class _Called(Struct):
    nonce: str


_decode_called = msgspec.json.Decoder(_Called).decode


def nonce_of(raw: RawEntry) -> str | None:
    """Whose call an entry is of, as far as anybody can read it."""
    try:
        return _decode_called(raw[1].get(b"entry", b"")).nonce
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def whole_calls(found: list[Line], last: int) -> list[Line]:
    """`found` without the beginning of a call whose end may not be in it.

    Args:
        found: Proved by `lines`.
        last: The shard's last sequence when they were read; a piece that reaches it is whole, because a call
            appends all its entries at once.
    """
    if not found or found[-1].sequence == last:
        return found
    end = len(found) - 1
    while end > 0 and found[end].entry.previous_nonce is None:
        end -= 1
    return found[:end]


def first_call(found: list[Line]) -> list[Line]:
    """The beginning of `found` that one call has appended."""
    for index, line in enumerate(found):
        if index and line.entry.previous_nonce is not None:
            return found[:index]
    return found

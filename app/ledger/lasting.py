"""Keys that hold for ever, and when Redis' own memory is not enough for them.

Redis remembers an answer for 24 h, and the journal has everything that is older than a few hours (its backlog
is bounded in age). So a key that may have been used longer ago is asked of the journal first, then of Redis,
and nothing falls between the two.

That holds as long as the journal, when it was asked, lacked nothing that Redis has forgotten when the
operation is carried out. A backlog is refused long before it is a day old, but only while it lasts: the
machine stood still for a weekend, the key is asked for, the worker commits what it had not, and only then the
operation arrives at a shard whose backlog looks well again. So the journal says how far it was when it was
asked (`Extent`), the operation carries that along, and the script refuses where something older than half of
its memory may lie between the two (`parts/memory`). Whoever asks again then finds the entry.

A request may name a provider's task instead of its reservation, and the task may be bound to a later one by
the time the request is repeated: Redis forgets a task a day after its deadline. The journal then finds the
key at the earlier reservation (`Backing.answered`), so that nobody confirms a job by repeating the confirm of
another. That is so for keys that hold for ever, as long as the projection has the earlier reservation. Any
other key, or none, means the reservation that the task has now.

While PostgreSQL is away an operation carries `NOWHERE`: it is never carried out, but what Redis remembers of
its key is answered.

All keys of grant, refund and adjust hold for ever, and so does every UUIDv7, which says when it was made. One
made lately cannot have been used long ago, so that Redis alone is asked for it. By whose clock it was made is
not known: it may be ahead by as much as a wrong time zone comes to, and then the key is older than it says.
"""

import re
from collections.abc import Callable

from app.ledger.backing import Keyed
from app.ledger.operations import (
    Adjust,
    Bind,
    Cancel,
    Configure,
    Confirm,
    Deduct,
    Extend,
    Grant,
    Operation,
    Refund,
    Reserve,
    Write,
)

REMEMBERED_MS = 86_400_000
"""How long Redis remembers what was answered to a key: `parts/book` has it."""

AHEAD_MS_MAX = 14 * 3_600_000
"""How far the clock may be ahead that made a key."""

OLD_MS = REMEMBERED_MS - AHEAD_MS_MAX

FUTURE_MS = 300_000
"""What is further ahead of Redis' clock than this was made by a wrong one."""

_ALWAYS = frozenset({Grant, Refund, Adjust})

# As RFC 9562 writes it; with `#<number>` behind it where a batch has one key for all of its operations.
_UUID7 = re.compile(
    r"([0-9a-f]{8})-([0-9a-f]{4})-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}(?:#\d{1,4})?",
    re.ASCII | re.IGNORECASE,
)


def made_at_ms(key: str) -> int | None:
    """When a UUIDv7 says that it was made; `None` for any other key."""
    found = _UUID7.fullmatch(key)
    return int(found[1] + found[2], 16) if found else None


def is_beyond_memory(operation: Write, now_ms: Callable[[], int]) -> bool:
    """Whether the journal must be asked for the key of an operation before it is sent.

    Args:
        operation: With or without a key.
        now_ms: Redis' time. While it is not known it is long ago, and the answer is yes.
    """
    key = operation.key
    if key is None:
        return False
    if type(operation) in _ALWAYS:
        return True
    at_ms = made_at_ms(key) if key[14:15] == "7" else None
    return at_ms is not None and not -FUTURE_MS <= now_ms() - at_ms <= OLD_MS


def is_overtaken(operation: Operation, now_ms: Callable[[], int]) -> bool:
    """Whether the journal must be asked for the key of an operation of which that was not known before."""
    return (
        isinstance(operation, Write) and operation.journaled is None and is_beyond_memory(operation, now_ms)
    )


def keyed(operation: Write) -> Keyed:
    """The key of an operation that has one, and whose it is: that belongs to what the request names."""
    key, fingerprint = operation.key, operation.fingerprint
    assert key is not None, "no key"
    assert fingerprint is not None, "a key without a fingerprint"
    if isinstance(operation, Confirm | Cancel | Extend | Bind):
        return Keyed("r", operation.reservation, key, fingerprint, operation.shard)
    assert isinstance(operation, Grant | Deduct | Reserve | Refund | Adjust | Configure), operation
    return Keyed("a", operation.account, key, fingerprint, operation.shard)

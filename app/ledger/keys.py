"""Every name that Lastro gives to something in Redis. `lua/parts/keys.lua` is this page in Lua.

The braces are the cluster's hash tag: all keys of a shard live in one slot.
"""

import re
from typing import Literal

LEDGER = "lastro:ledger"
SCAN_ALL = "lastro:*"

_OF_SHARD = re.compile(rb"lastro:\{(\d{1,4})\}:([a-z]+)(?::|$)")


def kind_of(name: bytes) -> tuple[int, str] | None:
    """The shard of a key and the word that says what it holds; `None` for one that belongs to no shard."""
    found = _OF_SHARD.match(name)
    return (int(found[1]), found[2].decode()) if found else None


def meta(shard: int) -> str:
    """Sequence, journaled sequence, link, clock, ledger id, incarnation, server and fence of a shard."""
    return f"lastro:{{{shard}}}:meta"


def journal(shard: int) -> str:
    """The stream of a shard; entry `<sequence>-0`."""
    return f"lastro:{{{shard}}}:journal"


def account(shard: int, account_id: str) -> str:
    """Balance, lots and settings of an account, as JSON. Never expires."""
    return f"lastro:{{{shard}}}:account:{account_id}"


def reservation(shard: int, reservation_id: str) -> str:
    """One reservation, as JSON. Expires 24 h after its end, never before."""
    return f"lastro:{{{shard}}}:reservation:{reservation_id}"


def holds(shard: int, account_id: str) -> str:
    """The open reservations of an account by deadline."""
    return f"lastro:{{{shard}}}:holds:{account_id}"


def due(shard: int) -> str:
    """When time has something to do in a shard: deadlines of holds, expiries of lots."""
    return f"lastro:{{{shard}}}:due"


def aside(shard: int) -> str:
    """Members of `due` that named nothing; kept for the operator, never dropped."""
    return f"lastro:{{{shard}}}:aside"


def lane(shard: int, process: str) -> str:
    """Call number and last reply of one process."""
    return f"lastro:{{{shard}}}:lane:{process}"


def task(shard: int, provider: str | None, task_id: str) -> str:
    """Which reservation a task belongs to. A provider has no colon in it; `shard` is the task's own."""
    return f"lastro:{{{shard}}}:task:{provider or ''}:{task_id}"


def claim(shard: int, provider: str | None, task_id: str) -> str:
    """That a task was claimed so lately that its reservation may still be on its way (on a cluster)."""
    return f"lastro:{{{shard}}}:claim:{provider or ''}:{task_id}"


def refunded(shard: int, transaction: str) -> str:
    """How much of a transaction was given back so far. Expires 24 h after the last refund; the journal knows
    it then.
    """
    return f"lastro:{{{shard}}}:refunded:{transaction}"


def limit(of: Literal["key", "account"], name: str) -> str:
    """When all requests of a key, a user or an account are paid for. Expires within seconds.

    No part of the ledger, and so not under its prefix; one tag, because many are counted in one call.
    """
    return f"lastro-limit:{{limit}}:{of}:{name}"


def alone() -> str:
    """Which API process judges alerts while PostgreSQL is away. For a minute, and no part of the ledger."""
    return "lastro-alerts:alone"


def operation(shard: int, kind: Literal["a", "r"], id_: str, key: str) -> str:
    """What was answered to a key of an account (`a`) or a reservation (`r`). Expires after 24 h.

    The length keeps an id and a key that contain colons from meeting another pair.
    """
    return f"lastro:{{{shard}}}:operation:{kind}:{len(id_)}:{id_}:{key}"

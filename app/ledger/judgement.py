"""Judges what a Redis shows of a shard by what PostgreSQL says of it. Texts in, words out: it asks nobody.

A verdict holds for the moment in which both were seen. `app.ledger.admission` looks and writes, and
`persistence.admission` holds the lock under which a verdict counts.
"""

from collections.abc import Collection

import msgspec
from msgspec import Struct

_NUMBERS_AHEAD_MAX = 1_000_000_000
"""How far a Redis' number may be ahead of a PostgreSQL that has lost its last ones."""

UNTIL = (
    "Fenced until `lastro restore` has brought it back from the journal, or its own Redis is back and "
    "`lastro unfence` finds it whole."
)

UNTIL_ADOPTED = (
    "Fenced until `lastro reconcile --adopt` has taken over what Redis has, which a restore would lose."
)

_FORGOTTEN = "PostgreSQL has lost entries that Redis no longer has."

WRONG_ONE = (
    "Name the other one in LASTRO_REDIS_URL. If this is the one that shall go on: `lastro fence`, and then "
    "`lastro unfence` or `lastro restore`, with this one's address."
)


class Standing(Struct, frozen=True):
    """What PostgreSQL says of a shard.

    `link` is the nonce of the call whose entry the cursor stands on; `server` who was given the number, empty
    where that is not known. A fence that Redis shows under a number below `lifted` has been lifted.
    `in_force`: Redis has been seen to let calls in under the number.
    """

    shard: int
    cursor: int
    link: str
    incarnation: int
    fence: str | None
    fenced_by: str | None = None
    lifted: int = 0
    server: str = ""
    in_force: bool = False


class Sighting(Struct, frozen=True, array_like=True):
    """What a Redis shows of a shard in one moment. Texts are empty where there is nothing to show, or
    nothing that a ledger has written: counts that are none, a link that is no nonce.

    `server` is who answered, `admitted_server` who was admitted; `next_id` and `next_entry` are the first
    entry of the stream after the journal's cursor; `goal` is where a rolling forward that has not ended was
    to bring the shard.
    """

    server: str
    now_ms: int
    meta_type: str
    journal_type: str
    last_id: str
    next_id: str
    next_entry: str
    ledger: str
    incarnation: str
    admitted_server: str
    fence: str
    sequence: str
    link: str
    goal: str = ""

    @property
    def is_away(self) -> bool:
        """Whether nobody has answered."""
        return self.meta_type == _AWAY


_AWAY = "away"

AWAY = Sighting("", 0, _AWAY, *[""] * 11)
"""Of a shard whose server does not answer."""


class _Linked(Struct):
    nonce: str
    previous_nonce: str | None = None


def is_numbered(standing: Standing, sighting: Sighting) -> bool:
    """Whether calls that name PostgreSQL's number for the shard are let in by the server that shows it."""
    return (
        standing.incarnation > 0
        and sighting.incarnation == str(standing.incarnation)
        and sighting.admitted_server == sighting.server
    )


def fault(standing: Standing, sighting: Sighting) -> str | None:
    """Why the shard must be fenced, or `None` when what it shows goes on from where the journal stands.

    Only under the lock is this a verdict; outside of it a suspicion.
    """
    if sighting.fence and not is_lifted(standing, sighting):
        return sighting.fence
    found = unreadable(standing, sighting) or _gap(standing, sighting) or _fork(standing, sighting)
    if found is None:
        return None
    return f"{found} {UNTIL_ADOPTED if found.endswith(_FORGOTTEN) else UNTIL}"


def is_lifted(standing: Standing, sighting: Sighting) -> bool:
    """Whether the fence that the shard shows is one that the operator has lifted meanwhile."""
    return sighting.incarnation.isdecimal() and int(sighting.incarnation) < standing.lifted


def strangeness(standing: Standing, sighting: Sighting, refused_servers: Collection[str]) -> str | None:
    """Why this server is the wrong one for the shard, whatever the shard's standing elsewhere, or `None`.

    A number that PostgreSQL has given since to somebody else makes an unchanged server the old side of a
    split: what it shows says nothing about the right one, so it is refused and nobody is fenced for it. So is
    one that was at fault when the operator went on with another.
    """
    server = sighting.server
    if not server or standing.server == server:
        return None
    number = int(sighting.incarnation) if sighting.incarnation.isdecimal() else None
    is_unchanged = sighting.admitted_server == server
    if standing.server and is_unchanged and number is not None and 0 < number < standing.incarnation:
        return (
            f"Another Redis has been admitted for shard {standing.shard} since this one was: number "
            f"{standing.incarnation} after this one's {number}. {WRONG_ONE}"
        )
    is_at_fault = fault(standing, sighting) is not None
    if is_at_fault and server in refused_servers:
        return f"This Redis was refused for shard {standing.shard}, and another one goes on. {WRONG_ONE}"
    if is_at_fault and sighting.fence and is_lifted(standing, sighting):
        return (
            f"Shard {standing.shard} of this Redis was fenced, and the fence was lifted for another one. "
            f"{WRONG_ONE}"
        )
    return None


def unreadable(standing: Standing, sighting: Sighting) -> str | None:
    """Why not even a number could be written into the shard, or `None` when one can."""
    shard = standing.shard
    if sighting.meta_type == "none":
        return f"Redis has nothing of shard {shard}: it has lost its data, or it is not this ledger's Redis."
    if sighting.meta_type != "hash" or sighting.journal_type not in ("stream", "none"):
        return f"The keys of shard {shard} in Redis have been overwritten by something else."
    written = (sighting.ledger, sighting.sequence, sighting.incarnation, sighting.link)
    if not all(written) or int(sighting.incarnation) > standing.incarnation + _NUMBERS_AHEAD_MAX:
        return f"The meta of shard {shard} in Redis is not readable."
    return None


def lags(standing: Standing, sighting: Sighting) -> bool:
    """Whether the shard may be the beginning of what the journal has, and nobody has fenced it."""
    if unreadable(standing, sighting) or (sighting.fence and not is_lifted(standing, sighting)):
        return False
    return int(sighting.sequence) < standing.cursor


def _gap(standing: Standing, sighting: Sighting) -> str | None:
    shard, cursor, sequence = standing.shard, standing.cursor, int(sighting.sequence)
    if sequence < cursor:
        return (
            f"Redis is {cursor - sequence} entries behind the journal in shard {shard}: "
            f"it ends at {sequence}, the journal at {cursor}."
        )
    if sighting.goal:
        return (
            f"Shard {shard} was being rolled forward to {sighting.goal} when PostgreSQL lost its last "
            "entries: some of its balances are ahead of the journal."
        )
    if sighting.last_id != (f"{sequence}-0" if sighting.last_id or sequence else ""):
        return (
            f"The stream of shard {shard} ends at {sighting.last_id or 'nothing'}, "
            f"but the shard has counted to {sequence}."
        )
    if sequence > cursor and sighting.next_id != f"{cursor + 1}-0":
        return (
            f"The stream of shard {shard} begins at {sighting.next_id}, but the journal ends at {cursor}: "
            f"{_FORGOTTEN}"
        )
    return None


def _fork(standing: Standing, sighting: Sighting) -> str | None:
    shard, cursor = standing.shard, standing.cursor
    if int(sighting.sequence) == cursor:
        link: str | None = sighting.link
    else:
        try:
            link = msgspec.json.decode(sighting.next_entry, type=_Linked).previous_nonce
        except msgspec.MsgspecError:
            return f"Entry {cursor + 1} of shard {shard} in Redis is not readable."
    if link != standing.link:
        return (
            f"Redis and the journal have different histories in shard {shard} from entry {cursor + 1} on: "
            f"Redis follows call {link}, the journal {standing.link}."
        )
    return None

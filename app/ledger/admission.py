"""Redis' half of the admission: look at a server, judge it, write the verdict into it.

A server is admitted, not checked: whether the history that it shows is the one that the journal has a part of
is decided once, under PostgreSQL's lock, and then carried by a number (the incarnation) that every call
compares. The lock and the number are `persistence.admission`'s.
"""

import re
from collections.abc import Collection, Sequence
from typing import Any

import msgspec
from msgspec import Struct, structs
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from app.ledger import keys, scripts
from app.ledger.backing import NotAdmitted
from app.ledger.running import run

CLOCKS_APART_MS_MAX = 600_000
"""A forward jump of Redis' clock ends holds for good, so a clock this far off is not let in."""

CLOCKS_APART_MS_HEALTHY = 60_000
"""From here on somebody should look at the two clocks."""

_COUNT_MAX = 2**53 - 1

_NUMBERS_AHEAD_MAX = 1_000_000_000
"""How far a Redis' number may be ahead of a PostgreSQL that has lost its last ones."""

_PLAIN = re.compile(r"[\w-]+", re.ASCII)

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


class _Linked(Struct):
    nonce: str
    previous_nonce: str | None = None


async def survey(redis: Redis, ledger: str, standings: Sequence[Standing]) -> list[Sighting]:
    """Look at every shard, each in a moment of its own.

    Raises:
        NotAdmitted: Two shards were answered by different servers, or one belongs to another ledger.
    """
    script = scripts.load("survey")
    async with redis.pipeline(transaction=False) as looks:
        for each in standings:
            shard = each.shard
            looks.eval(script.text, 2, keys.meta(shard), keys.journal(shard), each.cursor + 1)
        replies: list[list[bytes]] = await looks.execute()
    sightings = [_plain(reply) for reply in replies]
    if len({each.server for each in sightings}) > 1:
        raise NotAdmitted("Redis was replaced by another server while it was looked at.")
    for stranger in {each.ledger for each in sightings} - {"", ledger}:
        raise _inhabited(stranger, ledger)
    return sightings


def _plain(reply: Sequence[bytes]) -> Sighting:
    """PostgreSQL takes no broken UTF-8 and no NUL, and nobody could lift a fence that cannot be spelt."""
    texts = [each.decode(errors="replace").replace("\0", "?") for each in reply]
    seen: Sighting = msgspec.convert(texts, Sighting, strict=False)
    changes = {name: _count(getattr(seen, name)) for name in ("incarnation", "sequence", "goal")}
    changes["link"] = seen.link if _PLAIN.fullmatch(seen.link) else ""
    if seen.fence.encode() not in reply:
        changes |= {"fence": "", "sequence": ""}
    return structs.replace(seen, **changes)


def _count(text: str) -> str:
    is_count = text.isascii() and text.isdecimal() and len(text) <= len(str(_COUNT_MAX))
    return text if is_count and int(text) <= _COUNT_MAX else ""


async def demand_fit_server(redis: Redis, ledger: str, shards: int, clock_ms: int) -> str:
    """Demand what holds for a server as a whole. Nothing is fenced for it: mending it is enough.

    Returns who has answered (its `master_replid`), empty where that is not told.

    Args:
        redis: Whom to ask.
        ledger: The id of the ledger that must live there, if any does.
        shards: How many it must have.
        clock_ms: This machine's clock.

    Raises:
        NotAdmitted: A replica, a server that evicts, a clock too far off, or another ledger's server.
    """
    replication, memory = await _info(redis, "replication"), await _info(redis, "memory")
    if replication.get("role", "master") != "master":
        raise NotAdmitted("This Redis is a replica. Name the primary in LASTRO_REDIS_URL.")
    policy = memory.get("maxmemory_policy", "noeviction")
    if memory.get("maxmemory", 0) > 0 and policy != "noeviction":
        raise NotAdmitted(
            f"This Redis evicts keys when memory is short (maxmemory-policy {policy}), and keys are credits. "
            "Set it to noeviction."
        )
    apart_ms = await clocks_apart_ms(redis, clock_ms)
    if abs(apart_ms) > CLOCKS_APART_MS_MAX:
        raise NotAdmitted(
            f"Redis' clock is {abs(apart_ms) // 1000} s {'ahead of' if apart_ms > 0 else 'behind'} this "
            "machine's. Deadlines are judged by it, so it is not let in before one of the two is set right."
        )
    try:
        owner = await redis.hmget(keys.LEDGER, ["id", "shards"])
    except ResponseError as error:
        raise NotAdmitted(f"{keys.LEDGER} in this Redis is not what a ledger has written: {error}") from error
    if owner not in ([None, None], [ledger.encode(), str(shards).encode()]):
        raise _inhabited(f"{owner[0]!r} with {owner[1]!r} shards", f"{ledger} with {shards}")
    server: str = replication.get("master_replid", "")
    return server


async def clocks_apart_ms(redis: Redis, clock_ms: int) -> int:
    """How far Redis' clock is ahead of this machine's; negative: behind."""
    seconds, microseconds = await redis.time()
    return seconds * 1000 + microseconds // 1000 - clock_ms


def _inhabited(stranger: str, ledger: str) -> NotAdmitted:
    return NotAdmitted(
        f"Another ledger lives in this Redis: {stranger}; the database has {ledger}. "
        "Name the right one in LASTRO_REDIS_URL or LASTRO_DATABASE_URL."
    )


async def _info(redis: Redis, section: str) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = await redis.info(section)
    except ResponseError:  # a stand-in that has no INFO
        return {}
    return answer


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


async def write(redis: Redis, ledger: str, standing: Standing, sighting: Sighting) -> bool:
    """Tell a shard under which number it was admitted. `False`: it is no longer as it was seen."""
    arguments: list[str | int] = [ledger, sighting.server, sighting.sequence, sighting.link]
    lifted = sighting.fence if standing.fence is None else ""
    arguments += [standing.incarnation, standing.fence or "", lifted]
    return bool(
        await run(redis, scripts.load("admit"), [keys.meta(standing.shard)], arguments) == b"admitted"
    )


async def fence(redis: Redis, ledger: str, shard: int, why: str) -> None:
    """Make a shard refuse. One that refuses already keeps its reason; one that is not ours is left alone."""
    await run(redis, scripts.load("fence"), [keys.meta(shard)], [ledger, why])

"""What Redis has of some accounts, each group of them in one moment. Only reads."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct
from redis.asyncio import Redis
from redis.exceptions import NoScriptError, ResponseError

from app.ledger import keys, scripts
from app.ledger.running import at_once, run

ACCOUNTS_AT_ONCE = 50
RESERVATIONS_AT_ONCE = 500
"""A script holds up everybody. So many take Redis about a millisecond (docs/reconciling.md)."""

NO_TIME = -1

_AGAIN = "It is being admitted anew: try again in a moment."
_WHAT_TO_DO = {
    "the shard has no meta": "Redis has lost its data, or is another one; `lastro doctor` says what to do.",
    "another ledger lives here": "`lastro doctor` says what to do.",
    "the shard is being loaded": "A restore is at work; if it was cut off, run `lastro restore` again.",
    "the shard is at another incarnation": _AGAIN,
    "the server has changed since it was admitted": _AGAIN,
}
"""By what the script answers; a fence says it itself."""

_encode = msgspec.json.Encoder().encode


class NotExaminable(Exception):
    """This Redis is not, or no longer, the one that was admitted for the shard. The text says why."""


class Hold(Struct, frozen=True):
    """A reservation. `deadline_ms` as the account's holds have it, `due_ms` as the shard's deadlines do;
    `None`: they do not. `text` is empty where there is none, and a space where something else stands in its
    place.
    """

    id: str
    deadline_ms: int | None
    due_ms: int | None
    text: bytes


class Sighting(Struct, frozen=True):
    """An account. `sequence`: what the shard had counted to in that moment."""

    sequence: int
    text: bytes
    due_ms: int | None
    holds: list[Hold]


class Place(NamedTuple):
    """Which shard to look at. `incarnation`: as PostgreSQL has it; `None`: also at one that refuses."""

    ledger: str
    shard: int
    incarnation: int | None


async def examine(
    redis: Redis, place: Place, accounts: Sequence[str], more: Mapping[str, Sequence[str]] | None = None
) -> dict[str, Sighting]:
    """Every one of `accounts`, with its open reservations and those that `more` names for it.

    Raises:
        NotExaminable: See there.
        redis.exceptions.RedisError: Redis is away.
    """
    wanted = [[account, *(more or {}).get(account, ())] for account in accounts]
    found: dict[str, Sighting] = {}
    while wanted:
        some = wanted[:ACCOUNTS_AT_ONCE]
        names, arguments = _question(place, some)
        try:
            reply = await run(redis, scripts.load("examine"), names, arguments)
        except ResponseError as error:
            raise NotExaminable(f"Shard {place.shard} cannot be looked at: {error}.") from error
        _demand_ok(place.shard, reply)
        for names, seen in zip(some, reply[2], strict=False):
            found[names[0]] = _sighting(int(reply[1]), seen)
        wanted = wanted[len(reply[2]) :]
    return found


async def read_together(redis: Redis, place: Place, names: Sequence[str]) -> tuple[int, list[bytes | None]]:
    """What is stored under some keys of a shard, and what the shard had counted to in that moment.

    Raises:
        NotExaminable: See there.
        redis.exceptions.RedisError: Redis is away.
    """
    script = scripts.load("examine")
    metas, arguments = _question(place, [])
    for command, text in (("EVALSHA", script.sha), ("EVAL", script.text)):
        question = (command, text, len(metas), *metas, *arguments)
        reply, values = await at_once(redis, metas[0], question, ("MGET", *names))
        if not isinstance(reply, NoScriptError):
            break
    if isinstance(reply, ResponseError):
        raise NotExaminable(f"Shard {place.shard} cannot be looked at: {reply}.")
    _demand_ok(place.shard, reply)
    return int(reply[1]), values


def _question(place: Place, wanted: Sequence[Sequence[str]]) -> tuple[list[str], list[str | int]]:
    shard = place.shard
    return [keys.meta(shard), keys.due(shard)], [
        place.ledger,
        "" if place.incarnation is None else place.incarnation,
        keys.account(shard, ""),
        keys.holds(shard, ""),
        keys.reservation(shard, ""),
        RESERVATIONS_AT_ONCE,
        _encode(wanted).decode(),
    ]


def _demand_ok(shard: int, reply: Any) -> None:
    if reply[0] != b"ok":
        raise NotExaminable(_sentence(shard, reply[1].decode()))


def _sentence(shard: int, why: str) -> str:
    return f"Shard {shard} cannot be looked at: {why.rstrip('.')}. {_WHAT_TO_DO.get(why, '')}".rstrip()


def _sighting(sequence: int, seen: Any) -> Sighting:
    text, due, listed = seen
    holds = [
        Hold(listed[i].decode(errors="replace"), _ms(listed[i + 1]), _ms(listed[i + 2]), listed[i + 3])
        for i in range(0, len(listed), 4)
    ]
    return Sighting(sequence, text, _ms(due), holds)


def _ms(score: bytes) -> int | None:
    """A score is a float to Redis; milliseconds are exact in it. What is no time is before all others."""
    if not score:
        return None
    number = float(score)
    return int(number) if number.is_integer() else NO_TIME

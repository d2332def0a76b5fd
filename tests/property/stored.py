"""What Redis holds, read without the engine."""

from typing import Any, NamedTuple

import msgspec
from redis.asyncio import Redis

from app.ledger import keys, replies


class Stored(NamedTuple):
    """What Redis holds of one shard. `due` and `holds` are sorted sets; `forgotten_at_ms`: -1 is never."""

    meta: dict[str, str]
    accounts: dict[str, replies.Account]
    reservations: dict[str, replies.Reservation]
    refunded: dict[str, int]
    due: dict[str, int]
    holds: dict[str, dict[str, int]]
    forgotten_at_ms: dict[str, int]


async def read(redis: Redis, shard: int) -> Stored:
    """Everything that Redis holds of a shard but its stream."""
    prefix = keys.meta(shard).removesuffix("meta")
    names = sorted([name.decode() async for name in redis.scan_iter(f"{prefix}*", count=1000)])
    async with redis.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.pexpiretime(name)
            kind = name.removeprefix(prefix).partition(":")[0]
            if kind in {"account", "reservation", "refunded"}:
                pipe.get(name)
            elif kind in {"due", "holds"}:
                pipe.zrange(name, 0, -1, withscores=True)
            elif kind == "meta":
                pipe.hgetall(name)
            else:
                pipe.exists(name)
        answers = await pipe.execute()
    ends = dict(zip(names, answers[0::2], strict=True))
    values = {name.removeprefix(prefix): value for name, value in zip(names, answers[1::2], strict=True)}
    account, reservation = replies.Account, replies.Reservation
    return Stored(
        meta={name.decode(): value.decode() for name, value in values["meta"].items()},
        accounts={k: msgspec.json.decode(v, type=account) for k, v in _named(values, "account:")},
        reservations={k: msgspec.json.decode(v, type=reservation) for k, v in _named(values, "reservation:")},
        refunded={name: int(value) for name, value in _named(values, "refunded:")},
        due=_scores(values.get("due", [])),
        holds={name: _scores(value) for name, value in _named(values, "holds:")},
        forgotten_at_ms={name.removeprefix(prefix): at_ms for name, at_ms in ends.items()},
    )


def _named(values: dict[str, Any], prefix: str) -> list[tuple[str, Any]]:
    return [(name.removeprefix(prefix), value) for name, value in values.items() if name.startswith(prefix)]


def _scores(pairs: list[tuple[bytes, float]]) -> dict[str, int]:
    return {member.decode(): int(score) for member, score in pairs}

"""Redis' own checks: what the doctor looks at too, and whether what is due has happened."""

from collections.abc import Mapping, Sequence

from redis.asyncio import Redis

from app.ledger import keys
from app.ledger.acknowledgement import Acknowledgement
from app.ledger.apart import Part, earliest_ms, of_shards
from app.ledger.findings import Finding
from app.rules import Rule
from persistence.cleaning.due import RESERVATION, count_due
from persistence.doctor.between import acknowledged
from persistence.health.seen import Seen, counted, found

OVERDUE_MS = 60_000
"""Later than this a reservation is overdue: the sweep comes every 5 seconds."""

NAMED_MAX = 3
_ID = slice(len(RESERVATION), len(RESERVATION) + 36)


async def shards_of(redis: Redis) -> int:
    """How many shards the ledger of this Redis has; 0 where there is none."""
    shards = await redis.hget(keys.LEDGER, "shards")
    return int(shards) if shards and shards.isdigit() else 0


async def kept(
    redis: Redis, vitals: Sequence[Finding], level: Acknowledgement, rules: Mapping[str, Rule]
) -> list[Seen]:
    """Whether it keeps what it has: on disk, at its replicas, when memory is short."""
    named = {each.check: each for each in vitals}
    checks = ("redis_version", "redis_persistence", "redis_replicas", "redis_cluster", "redis_slots")
    keeps = [named[each] for each in checks if each in named]
    keeps.append(await acknowledged(redis, level))
    room = [named["redis_eviction"], named["redis_memory"]]
    return [found(rules["redis_persistence"], keeps), found(rules["redis_eviction"], room)]


async def overdue(redis: Redis, shards: int, rules: Mapping[str, Rule]) -> Seen:
    """Reservations that nobody has ended though their time is over."""
    rule = rules["overdue_reservations"]
    before_ms = await earliest_ms(redis) - OVERDUE_MS
    count = await count_due(redis, range(shards), before_ms)
    if not count:
        return counted(rule, 0, "No reservation is overdue.")
    named = ", ".join(await _oldest(redis, shards, before_ms))
    do = "Are workers and cron at work, and is the shard fenced? `lastro cleanup` ends them now."
    return counted(rule, count, f"{count:,} are overdue: {named}{' ...' * (count > NAMED_MAX)}.", do=do)


async def _oldest(redis: Redis, shards: int, before_ms: int) -> list[str]:
    """Some of them, of any shards."""

    async def of(part: Part) -> list[list[bytes]]:
        async with redis.pipeline(transaction=False) as looks:
            for shard in part.shards:
                looks.zrangebyscore(keys.due(shard), "-inf", before_ms, start=0, num=NAMED_MAX)
            return list(await looks.execute())

    pages = await of_shards(redis, range(shards), of)
    members = (member for shard in sorted(pages) for member in pages[shard] if member.startswith(RESERVATION))
    return [member.decode()[_ID] for member in members][:NAMED_MAX]

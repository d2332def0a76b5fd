"""Redis' half of `lastro doctor`: whether this server can be trusted with credits. Writes nothing.

Each check is one line: what was found, how bad it is, and what to do.
"""

from collections.abc import Collection, Mapping
from typing import Any

from redis.asyncio import Redis
from redis.crc import key_slot
from redis.exceptions import ResponseError

from app.ledger import keys
from app.ledger.admission import CLOCKS_APART_MS_HEALTHY, CLOCKS_APART_MS_MAX, clock_apart_ms
from app.ledger.apart import Part, of_nodes, of_shards
from app.ledger.connection import Node, is_cluster, nodes
from app.ledger.findings import Finding, Level, worst
from app.ledger.sampling import SAMPLE_MAX, sampled_keys

NAMED_MAX = 3

_VERSION_MIN = (7, 0)
_FULL_PERCENT, _NEARLY_FULL_PERCENT = 90, 75

_FULL_COVERAGE = "cluster-require-full-coverage"


async def checkup(redis: Redis, shards: int, clock_ms: int, *, sample_max: int = SAMPLE_MAX) -> list[Finding]:
    """Every check of the server.

    Args:
        redis: Whom to examine.
        shards: How many the ledger has; 0: not known.
        clock_ms: This machine's clock.
        sample_max: How many keys are looked at.

    Raises:
        redis.exceptions.RedisError: It does not answer.
    """
    return [*await vitals(redis, shards, clock_ms), await sampled_keys(redis, shards, sample_max)]


async def vitals(redis: Redis, shards: int, clock_ms: int) -> list[Finding]:
    """The checks that cost next to nothing, as often as one likes; arguments and errors as of `checkup`."""
    by_node = await of_nodes(redis, lambda node: _of_node(redis, node, clock_ms))
    found = worst(by_node)
    if is_cluster(redis):
        found += [await _cluster(redis, by_node), await _slots(redis, shards)]
    return [*found, await _aside(redis, shards)]


async def _of_node(redis: Redis, node: Node, clock_ms: int) -> list[Finding]:
    info: dict[str, Any] = await redis.info(**node.only)
    settings = await _settings(redis, node)
    return [
        _version(info),
        _eviction(info),
        _memory(info),
        _persistence(info, settings),
        _replicas(info, settings),
        _clock(await clock_apart_ms(redis, node, clock_ms)),
    ]


async def _settings(redis: Redis, node: Node) -> Mapping[str, str]:
    """Empty where CONFIG is not allowed, as managed servers have it."""
    wanted = ("appendfsync", "no-appendfsync-on-rewrite", "min-replicas-to-write", _FULL_COVERAGE)
    try:
        found: dict[Any, Any] = await redis.config_get(*wanted, **node.only)
    except ResponseError:
        return {}
    return {_text(name): _text(value) for name, value in found.items()}


async def _cluster(redis: Redis, answering: Collection[str]) -> Finding:
    """Whether all of a cluster is there, and what happens when a part of it is not."""
    name, there = "redis_cluster", await nodes(redis)
    silent = [each.name for each in there if each.name not in answering]
    if silent:
        do = "Bring them back, or have their replicas take over; the shards of the others are served."
        says = f"{len(silent)} of {len(there)} primaries do not answer: {', '.join(silent)}."
        return Finding(name, "critical", says, do)
    told: Any = await redis.execute_command("CLUSTER INFO", **there[0].only)  # type: ignore[no-untyped-call]
    if told["cluster_state"] != "ok":
        says = f"{there[0].name} says that the cluster's state is {told['cluster_state']}."
        return Finding(name, "critical", says, "CLUSTER NODES says who is away.")
    if (await _settings(redis, there[0])).get(_FULL_COVERAGE) == "yes":
        return Finding(
            name,
            "warning",
            "cluster-require-full-coverage yes: one primary that is lost with its replicas stops all others.",
            "CONFIG SET cluster-require-full-coverage no on every node, and write it into the configuration.",
        )
    return Finding(name, "ok", f"{len(there)} primaries, which have all slots")


async def _slots(redis: Redis, shards: int) -> Finding:
    """Whether a shard stands on two nodes, where a script can be ended in its midst."""

    async def open_slots(node: Node) -> set[int]:
        told: dict[str, Any] = await redis.execute_command("CLUSTER NODES", **node.only)  # type: ignore[no-untyped-call]
        return {int(each["slot"]) for its in told.values() for each in its["migrations"]}

    found = set().union(*(await of_nodes(redis, open_slots)).values())
    halved = {
        shard: slot for shard in range(shards) if (slot := key_slot(keys.meta(shard).encode())) in found
    }
    if not halved:
        return Finding("redis_slots", "ok", "no shard is on two nodes")
    shard, slot = next(iter(halved.items()))
    return Finding(
        "redis_slots",
        "critical",
        f"Shards are being moved key by key: {_some(halved)}. What a call writes there may be cut short.",
        f"`lastro fence --shard {shard}` now, let the move of slot {slot} end, then `lastro unfence --shard "
        f"{shard}` and `lastro reconcile`. Move slots atomically (docs/cluster.md).",
    )


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _version(info: Mapping[str, Any]) -> Finding:
    valkey = info.get("valkey_version")
    name = f"Valkey {valkey}" if valkey else f"Redis {info.get('redis_version')}"
    compatible = tuple(int(part) for part in str(info.get("redis_version", "0")).split(".")[:2])
    if compatible < _VERSION_MIN:
        return Finding("redis_version", "critical", f"{name} is too old.", "Move to Redis 7.0 or Valkey 8.")
    return Finding("redis_version", "ok", name)


def _eviction(info: Mapping[str, Any]) -> Finding:
    policy = info.get("maxmemory_policy", "noeviction")
    if policy == "noeviction":
        return Finding("redis_eviction", "ok", "maxmemory-policy noeviction")
    return Finding(
        "redis_eviction",
        "critical" if info.get("maxmemory", 0) else "warning",
        f"maxmemory-policy {policy}: keys, which are credits, may be thrown away when memory is short.",
        "CONFIG SET maxmemory-policy noeviction, and write it into the configuration.",
    )


def _memory(info: Mapping[str, Any]) -> Finding:
    bound = info.get("maxmemory", 0)
    used = info.get("used_memory", 0)
    if bound:
        used -= info.get("mem_not_counted_for_evict", 0)
    of = "maxmemory" if bound else "the machine's memory; no maxmemory is set"
    bound = bound or info.get("total_system_memory", 0)
    if not bound:
        return Finding("redis_memory", "unknown", f"{_mib(used)} used; Redis does not say of how much.")
    percent = used * 100 // bound
    says = f"{_mib(used)} used, {percent}% of {_mib(bound)} ({of})"
    if percent < _NEARLY_FULL_PERCENT:
        return Finding("redis_memory", "ok", says)
    level: Level = "critical" if percent >= _FULL_PERCENT else "warning"
    return Finding("redis_memory", level, says, "Give Redis more memory: a full one refuses all new work.")


def _mib(size: int) -> str:
    return f"{size / 1024 / 1024:,.0f} MiB"


def _persistence(info: Mapping[str, Any], settings: Mapping[str, str]) -> Finding:
    name = "redis_persistence"
    if not info.get("aof_enabled"):
        return Finding(
            name,
            "critical",
            "appendonly no: whatever PostgreSQL lacks when Redis stops is lost.",
            "CONFIG SET appendonly yes, appendfsync always, and write both into the configuration.",
        )
    for what in ("aof_last_write_status", "aof_last_bgrewrite_status"):
        if info.get(what, "ok") != "ok":
            do = "Look at Redis' disk and its log: it refuses writes, or will."
            return Finding(name, "critical", f"{what}: {info[what]}", do)
    policy = settings.get("appendfsync")
    if policy is None:
        return Finding(name, "unknown", "appendonly yes; Redis does not tell appendfsync (CONFIG GET).")
    if policy != "always":
        return Finding(
            name,
            "warning",
            f"appendfsync {policy}: a power loss takes what was acknowledged in the last moments.",
            "CONFIG SET appendfsync always, unless that is what you want (docs/acknowledging.md).",
        )
    if settings.get("no-appendfsync-on-rewrite") == "yes":
        do = "CONFIG SET no-appendfsync-on-rewrite no."
        return Finding(name, "warning", "no-appendfsync-on-rewrite yes: no fsync during a rewrite.", do)
    return Finding(name, "ok", "appendonly yes, appendfsync always, last write ok")


def _replicas(info: Mapping[str, Any], settings: Mapping[str, str]) -> Finding:
    name = "redis_replicas"
    if info.get("role", "master") != "master":
        do = "Name the primary in LASTRO_REDIS_URL."
        return Finding(name, "critical", "This Redis is a replica: it takes no writes.", do)
    replicas = [info[f"slave{number}"] for number in range(info.get("connected_slaves", 0))]
    if not replicas:
        return Finding(name, "ok", "no replicas: if this server is lost, `lastro restore` makes it again")
    lagging = [each for each in replicas if each.get("state") != "online"]
    if lagging:
        do = "Look at the replica and the network between."
        return Finding(name, "warning", f"{len(lagging)} of {len(replicas)} replicas are not in sync.", do)
    if settings.get("min-replicas-to-write", "0") == "0":
        return Finding(
            name,
            "warning",
            f"{len(replicas)} replicas, min-replicas-to-write 0: cut off from them, this server goes on.",
            "CONFIG SET min-replicas-to-write 1, so that the old side of a split refuses at once.",
        )
    needed = settings["min-replicas-to-write"]
    return Finding(name, "ok", f"{len(replicas)} replicas, min-replicas-to-write {needed}")


def _clock(apart_ms: int) -> Finding:
    says = (
        f"Redis' clock is {abs(apart_ms) / 1000:.1f} s {'ahead of' if apart_ms > 0 else 'behind'} this one's"
    )
    if abs(apart_ms) <= CLOCKS_APART_MS_HEALTHY:
        return Finding("clock", "ok", says)
    level: Level = "critical" if abs(apart_ms) > CLOCKS_APART_MS_MAX else "warning"
    return Finding("clock", level, says, "Set the wrong one right: deadlines are judged by Redis' clock.")


async def _aside(redis: Redis, shards: int) -> Finding:
    async def count(part: Part) -> list[Any]:
        async with redis.pipeline(transaction=False) as looks:
            for shard in part.shards:
                looks.zcard(keys.aside(shard))
            return list(await looks.execute(raise_on_error=False))

    counts = await of_shards(redis, range(shards), count)
    found = {shard: count for shard, count in sorted(counts.items()) if isinstance(count, int) and count}
    if not found:
        return Finding("set_aside", "ok", "nothing that was due has been set aside")
    first = keys.aside(min(found))
    return Finding(
        "set_aside",
        "critical",
        f"{sum(found.values())} due members named nothing and were set aside, in shards {_some(found)}.",
        f"Look at them (ZRANGE '{first}' 0 -1 WITHSCORES), then `lastro reconcile`.",
    )


def _some(numbers: Mapping[int, object]) -> str:
    shown = sorted(numbers)
    return ", ".join(map(str, shown[:NAMED_MAX])) + (", ..." if len(shown) > NAMED_MAX else "")

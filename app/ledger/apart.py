"""Asks many shards at once, each of the server that has it, so that one that is away keeps no other from
answering. Where one server has all, it is asked once for all of them.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from redis.asyncio import Redis

from app.ledger import keys
from app.ledger.connection import LOST, Node, is_cluster, look_anew, node_of, nodes

_SERVERS_MAX = 4096

_Answer = TypeVar("_Answer")


class Part(NamedTuple):
    """The shards of one server."""

    node: Node
    shards: list[int]


def this(node: Node) -> str:
    """What a server is called: the only one, or by its name."""
    return f"the Redis node {node.name}" if node.name else "this Redis"


async def of_shards(
    redis: Redis, shards: Sequence[int], ask: Callable[[Part], Awaitable[Sequence[_Answer]]]
) -> dict[int, _Answer]:
    """What the servers say of their shards; those of one that does not answer are missing.

    Args:
        redis: Of one server, or of a cluster.
        shards: Of which something is asked.
        ask: Asks one server, and answers for each shard of its part in turn.

    Raises:
        redis.exceptions.RedisError, OSError: Nobody answers.
    """
    answers: dict[int, _Answer] = {}
    for part, its in await _asked(redis, await parts(redis, shards), ask):
        answers |= zip(part.shards, its, strict=True)
    return answers


async def of_nodes(redis: Redis, ask: Callable[[Node], Awaitable[_Answer]]) -> dict[str, _Answer]:
    """What the servers say, by their names; one that does not answer is missing. Raises as `of_shards`."""

    async def alone(part: Part) -> _Answer:
        return await ask(part.node)

    alike = [Part(node, []) for node in await nodes(redis)]
    return {part.node.name: answer for part, answer in await _asked(redis, alike, alone)}


async def _asked(
    redis: Redis, asked: Sequence[Part], ask: Callable[[Part], Awaitable[_Answer]]
) -> list[tuple[Part, _Answer]]:
    answers = await asyncio.gather(*map(ask, asked), return_exceptions=True)
    found: list[tuple[Part, _Answer]] = []
    silent: list[BaseException] = []
    for part, answer in zip(asked, answers, strict=True):
        if not isinstance(answer, BaseException):
            found.append((part, answer))
        elif isinstance(answer, LOST):
            silent.append(answer)
            look_anew(redis, part.node)
        else:
            raise answer
    if silent and not found:
        raise silent[0]
    return found


async def parts(redis: Redis, shards: Sequence[int]) -> list[Part]:
    """Which server has which of these shards, as far as the client knows.

    Raises:
        redis.exceptions.RedisError: No node of the cluster answers.
    """
    if not is_cluster(redis):
        return [Part(node, list(shards)) for node in await nodes(redis) if shards]
    found: dict[str, Part] = {}
    for shard in shards:
        node = await node_of(redis, keys.meta(shard))
        found.setdefault(node.name, Part(node, [])).shards.append(shard)
    return list(found.values())


async def node_ms(redis: Redis, node: Node) -> int:
    """The time of a server, in milliseconds since 1970."""
    seconds, microseconds = await redis.time(**node.only)
    return int(seconds) * 1000 + int(microseconds) // 1000


async def earliest_ms(redis: Redis) -> int:
    """The time of Redis; of several servers that of the one that is furthest behind."""
    return min((await of_nodes(redis, lambda node: node_ms(redis, node))).values())


async def scan(redis: Redis, match: str, count: int) -> AsyncIterator[Sequence[bytes]]:
    """The keys of all servers, page by page; one may come twice, as SCAN has it. Raises what the client does,
    also where only one server is away.
    """
    for server in await nodes(redis):
        place = 0
        while True:
            place, page = await scan_node(redis, server, place, match, count)
            yield page
            if place == 0:
                break


async def each_key(redis: Redis, match: str) -> AsyncIterator[bytes]:
    """As `scan`, one by one."""
    async for page in scan(redis, match, count=1000):
        for name in page:
            yield name


async def scan_page(redis: Redis, place: int, match: str, count: int) -> tuple[int, Sequence[bytes]]:
    """A page of the keys of all servers, and the place at which to go on; 0 at the end.

    Where there are several servers the place also says which one it belongs to. When they change meanwhile
    the walk ends all the same, and may have missed some.
    """
    servers = await nodes(redis)
    if len(servers) == 1:
        return await scan_node(redis, servers[0], place, match, count)
    own, number = divmod(place, _SERVERS_MAX)
    if number >= len(servers):
        return 0, []
    own, page = await scan_node(redis, servers[number], own, match, count)
    number += own == 0
    return (0 if number == len(servers) else own * _SERVERS_MAX + number), page


async def scan_node(
    redis: Redis, server: Node, place: int, match: str, count: int
) -> tuple[int, Sequence[bytes]]:
    """A page of the keys of one server, and the place at which to go on; 0 at the end."""
    found: Any = await redis.scan(place, match=match, count=count, **server.only)
    following, page = found
    return int(following[server.name] if server.only else following), page

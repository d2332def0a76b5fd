"""How the ledger reaches Redis: one server, or the servers of a cluster.

redis-py repeats a command whose answer was lost, up to ten times by default: an EVALSHA that moved credits
would move them again. Here nothing repeats a command but the batcher, which knows how.
"""

import time
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

from redis._parsers import AsyncCommandsParser
from redis.asyncio import Redis
from redis.asyncio.cluster import ClusterNode, ClusterPipeline, RedisCluster
from redis.asyncio.connection import Connection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ClusterDownError, RedisClusterException, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from app.ledger.prompt import PromptConnection

ANSWER_SECONDS = 2.0

CLUSTER_SCHEMES = {"redis+cluster": "redis", "rediss+cluster": "rediss"}
"""How the address of a cluster begins, and how that of each of its nodes does."""

LOST = (RedisConnectionError, RedisTimeoutError, ClusterDownError, OSError)
"""What is met with a server that is away, or that its cluster has lost."""

LOOK_SECONDS = 0.25
"""How long at least from one look at a cluster's nodes to the next."""

_CONNECTIONS_MAX = 4096
"""Of one process to one node: more than it has calls in flight, one for each shard."""


def names_cluster(url: str) -> bool:
    """Whether an address is that of a cluster (of any of its nodes)."""
    return url.partition("://")[0] in CLUSTER_SCHEMES


def connect(url: str, *, answer_seconds: float = ANSWER_SECONDS) -> Redis:
    """A client of one server, on one connection (`rediss://` and credentials as the URL says), opened by its
    first command; or of a cluster, which sends each command to the primary that has its keys, one at a time
    on each of as many connections as that takes.

    The client of a cluster has the same commands, so that it is declared as the other. What is asked of a
    server and not of a key (INFO, TIME, CONFIG, SCAN) is asked of each of `nodes`.

    Args:
        url: Where, with credentials.
        answer_seconds: How long a command may take before its outcome counts as unknown.
    """
    never, seconds = Retry(NoBackoff(), 0), answer_seconds
    scheme, _, rest = url.partition("://")
    if scheme in CLUSTER_SCHEMES:
        cluster = _Cluster.from_url(
            f"{CLUSTER_SCHEMES[scheme]}://{rest}",
            protocol=2,
            retry=never,
            max_connections=_CONNECTIONS_MAX,
            reinitialize_steps=0,  # or every fifth MOVED closes all connections, also those in use
            socket_connect_timeout=seconds,
            socket_timeout=seconds,
        )
        return cast("Redis", cluster)
    return Redis.from_url(
        url,
        single_connection_client=True,
        connection_class=PromptConnection,
        protocol=2,
        retry=never,
        socket_connect_timeout=seconds,
        socket_timeout=seconds,
    )


class _Commands(AsyncCommandsParser):
    """Where each command has its keys: asked once, of any node that answers. redis-py asks whenever it looks
    for the nodes, and always the first of them, without which it would reach none of the others.
    """

    def __init__(self, cluster: RedisCluster) -> None:
        super().__init__()
        self._cluster = cluster

    async def initialize(self, node: ClusterNode | None = None) -> None:
        if self.commands:
            self.node = node or self.node
            return
        silent: Exception = RedisConnectionError("The cluster has no primary.")
        for each in self._cluster.get_primaries():
            try:
                await super().initialize(each)
            except LOST as error:
                silent = error
            else:
                return
        raise silent


class _Pipeline(ClusterPipeline):
    """After which the nodes are looked for anew where one has not answered, as after any other command."""

    async def execute(self, raise_on_error: bool = True, allow_redirections: bool = True) -> list[Any]:
        cluster: Any = self.cluster_client
        try:
            answers = await super().execute(raise_on_error, allow_redirections)
        except RedisClusterException as error:
            raise RedisConnectionError(str(error)) from error
        except LOST:
            cluster.look_anew()
            raise
        if any(isinstance(each, LOST) for each in answers):
            cluster.look_anew()
        return answers


class _Cluster(RedisCluster):
    """With the errors of any other client: that no node answers, or has the slot, is a lost connection."""

    _silent: str | None = None
    """Who did not answer last, and is asked last for the nodes: one that hangs keeps all others waiting."""

    _looked_at = 0.0

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands_parser = _Commands(self)
        if self.connection_kwargs["connection_class"] is Connection:  # not of TLS; it cannot be given before
            self.connection_kwargs["connection_class"] = PromptConnection

    async def initialize(self, *args: Any, **kwargs: Any) -> RedisCluster:
        """Learn which nodes there are. That takes milliseconds, so that whoever asks one that is away again
        and again waits a moment before it looks again; meanwhile what is known holds.
        """
        is_known = self.nodes_manager.default_node is not None
        if self._initialize and is_known and time.monotonic() - self._looked_at < LOOK_SECONDS:
            return self
        if self._initialize:
            self._looked_at = time.monotonic()
        kwargs["last_failed_node_name"] = kwargs.get("last_failed_node_name") or self._silent
        try:
            return await super().initialize(*args, **kwargs)
        except RedisClusterException as error:
            raise RedisConnectionError(str(error)) from error

    async def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        moved = self.reinitialize_counter  # at every MOVED it grows
        try:
            return await super().execute_command(*args, **kwargs)
        except RedisClusterException as error:
            raise RedisConnectionError(str(error)) from error
        except RedisError as error:
            self._silent = getattr(error, "last_failed_node_name", None) or self._silent
            raise
        finally:
            if self.reinitialize_counter != moved:
                self.look_anew()

    def pipeline(self, transaction: Any = None, shard_hint: Any = None) -> ClusterPipeline:
        assert shard_hint is None, "of no use on a cluster"
        return _Pipeline(self, transaction)  # type: ignore[abstract] # redis-py does not declare all it has

    def look_anew(self, silent: str | None = None) -> None:
        """Before the next command the nodes are asked which of them has which slots; last of all the one that
        was silent, by its name.
        """
        self._silent = silent or self._silent
        self._initialize = True

    async def aclose(self) -> None:
        """Close what there is, also of a client that was about to look for its nodes anew."""
        await super().aclose()
        for held in ("nodes_cache", "startup_nodes"):
            await self.nodes_manager.aclose(held)


class Node(NamedTuple):
    """A primary. `name`: host and port, empty where there is only one. `only` directs a command to it:
    `await redis.info("memory", **node.only)`.
    """

    name: str
    only: Mapping[str, Any]


def is_cluster(redis: Redis) -> bool:
    """Whether a client is that of a cluster."""
    client: Any = redis
    return isinstance(client, RedisCluster)


def look_anew(redis: Redis, silent: Node | None = None) -> None:
    """Have the client of a cluster look for its nodes before its next command, and ask `silent` last."""
    client: Any = redis
    if isinstance(client, _Cluster):
        client.look_anew(silent and silent.name)


async def nodes(redis: Redis) -> list[Node]:
    """The primaries that a client knows now, in the order of their names; of a single server, itself.

    Raises:
        redis.exceptions.RedisError: No node of the cluster answers.
    """
    client: Any = redis
    if not isinstance(client, RedisCluster):
        return [Node("", {})]
    await client.initialize()
    primaries = {str(each.name): each for each in client.get_primaries()}
    return [Node(name, {"target_nodes": primaries[name]}) for name in sorted(primaries)]


async def node_of(redis: Redis, key: str) -> Node:
    """The primary that has a key, as far as the client knows.

    Raises:
        redis.exceptions.RedisError: No node of the cluster answers, or none has the key's slot.
    """
    client: Any = redis
    if not isinstance(client, RedisCluster):
        return Node("", {})
    await client.initialize()
    try:
        found: Any = client.get_node_from_key(key)
    except RedisClusterException as error:
        raise RedisConnectionError(str(error)) from error
    return Node(str(found.name), {"target_nodes": found})

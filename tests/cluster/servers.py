"""A real cluster of Valkeys on one machine: primaries, each with a replica in step.

What a test does to it, an operator or a misfortune would do: slots are moved by the servers themselves,
processes are killed, replicas lose touch and take over.
"""

import random
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from redis import Redis as BlockingRedis
from redis.exceptions import RedisError

from app.embedded import Valkey
from app.embedded.ports import FIRST, is_free
from app.ledger import keys
from tests.conftest import PASSWORD, wait_until

SLOTS = 16_384
PATIENCE_SECONDS = 30.0


def _bus_ports(count: int) -> list[int]:
    """Different ones, where nobody draws a port to serve on: they are taken only when their servers start."""
    drawn = random.SystemRandom().sample(range(10_000, FIRST), 1000)
    return list(islice((port for port in drawn if is_free("127.0.0.1", port)), count))


class Cluster:
    """So many primaries, each with a replica. It can be entered once; everything ends with it.

    Args:
        folder: Where the servers have their data.
        primaries: How many have slots.
        node_timeout_ms: After how long a node that does not answer is dead, so that its replica takes over.
            The default is too long for one to be taken for dead where nobody is to take over.
        settings: Further lines of the configuration of each node.
    """

    def __init__(
        self,
        folder: Path,
        primaries: int = 3,
        *,
        node_timeout_ms: int = 15_000,
        settings: tuple[str, ...] = (),
    ) -> None:
        self.password = PASSWORD
        self._primaries = primaries
        self._stack = ExitStack()
        self._clients: dict[int, BlockingRedis] = {}
        self._bus_ports = _bus_ports(2 * primaries)
        self.servers = [
            Valkey(
                folder / f"node-{number}",
                folder / f"node-{number}.log",
                password=PASSWORD,
                more=(
                    "cluster-enabled yes",
                    f"cluster-port {bus_port}",
                    f"cluster-node-timeout {node_timeout_ms}",
                    "cluster-require-full-coverage no",
                    "cluster-allow-replica-migration no",
                    "cluster-replica-validity-factor 0",
                    f"masterauth {PASSWORD}",
                    "repl-diskless-sync-delay 0",
                    *settings,
                ),
            )
            for number, bus_port in enumerate(self._bus_ports)
        ]

    def __enter__(self) -> Self:
        try:
            for server in self.servers:
                self._stack.callback(server.kill)
                server.start()
            self._found()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def url(self) -> str:
        """What LASTRO_REDIS_URL says: it names the first node that lives."""
        return self._living()[0].url.replace("redis:", "redis+cluster:", 1)

    def ask(self, server: Valkey, *command: object) -> Any:
        """Of one node, which answers for what it has and sends nobody elsewhere."""
        if server.port not in self._clients:
            client = BlockingRedis.from_url(server.url, protocol=2, socket_timeout=PATIENCE_SECONDS)
            self._clients[server.port] = self._stack.enter_context(client)
        return self._clients[server.port].execute_command(*command)

    def primaries(self) -> list[Valkey]:
        """Those that have slots now."""
        told = self._told(self._living()[0])
        return [server for server in self.servers if told[server.port]["slots"]]

    def server_of(self, shard: int) -> Valkey:
        """The primary that has a shard."""
        return self.owner_of(self.slot_of(shard))

    def owner_of(self, slot: int) -> Valkey:
        """The primary that has a slot."""
        server = self._owner(self._living()[0], slot)
        assert server is not None, f"nobody has slot {slot}"
        return server

    def slot_of(self, shard: int) -> int:
        return int(self.ask(self._living()[0], "CLUSTER", "KEYSLOT", keys.meta(shard)))

    def replid_of(self, shard: int) -> str:
        """By which name the script knows the server of a shard."""
        return str(self.ask(self.server_of(shard), "INFO", "replication")["master_replid"])

    def replica_of(self, server: Valkey) -> Valkey:
        """The one that lives and follows it."""
        told = self._told(self._living()[0])
        name = told[server.port]["node_id"]
        return next(each for each in self._living() if told[each.port]["master_id"] == name)

    def spread(self, shards: int) -> None:
        """Give each primary in turn one of these shards, wherever they were."""
        primaries = self.primaries()
        for shard in range(shards):
            to = primaries[shard % len(primaries)]
            if self.server_of(shard) is not to:
                self.move(shard, to)

    def elsewhere(self, shard: int) -> Valkey:
        """A primary that does not have a shard."""
        return next(server for server in self.primaries() if server is not self.server_of(shard))

    def be_empty(self) -> None:
        """Without keys, and as if no script had ever been sent."""
        for server in self.primaries():
            self.ask(server, "FLUSHALL")
            self.ask(server, "SCRIPT", "FLUSH")

    def move(self, shard: int, to: Valkey) -> None:
        """Have the slot of a shard moved atomically, and return once all nodes know."""
        slot, source = self.slot_of(shard), self.server_of(shard)
        assert source is not to, "it is there already"
        name = self._told(source)[to.port]["node_id"]
        self.ask(source, "CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", name)

        def moved() -> bool:
            told = str(self.ask(source, "CLUSTER", "GETSLOTMIGRATIONS"))
            assert "failed" not in told, told
            return self._all_say(slot, to)

        wait_until(moved, PATIENCE_SECONDS)

    def promote(self, replica: Valkey) -> None:
        """It takes its primary's place, whether or not that one is dead, and all who live know."""
        told = self._told(replica)
        name = told[replica.port]["master_id"]
        (primary,) = [each for each in self.servers if told[each.port]["node_id"] == name]
        first = int(told[primary.port]["slots"][0][0])
        self.ask(replica, "CLUSTER", "FAILOVER", "TAKEOVER")
        wait_until(lambda: self._all_say(first, replica), PATIENCE_SECONDS)

    def until_taken_over(self, shard: int, replica: Valkey) -> None:
        """Wait until all know that a replica has a shard, because its primary was killed."""
        slot = self.slot_of(shard)
        wait_until(lambda: self._all_say(slot, replica), PATIENCE_SECONDS)

    def lose_touch(self, replica: Valkey) -> None:
        """Nothing of its primary reaches it any more, not even what is on its way."""
        self.ask(replica, "CONFIG", "SET", "masterauth", "another")
        self.ask(replica, "CLIENT", "KILL", "TYPE", "master")
        wait_until(lambda: not self._is_in_step(replica))

    def get_in_touch(self, replica: Valkey) -> None:
        self.ask(replica, "CONFIG", "SET", "masterauth", PASSWORD)
        wait_until(lambda: self._is_in_step(replica), PATIENCE_SECONDS)

    def until_whole(self) -> None:
        """Wait until all nodes live, all say that all is well and the same, and replicas are in step."""
        wait_until(lambda: all(map(self._is_well, self.servers)) and self._agree(), PATIENCE_SECONDS)

    def _found(self) -> None:
        for number, server in enumerate(self.servers):
            if number < self._primaries:
                first, end = (SLOTS * each // self._primaries for each in (number, number + 1))
                self.ask(server, "CLUSTER", "ADDSLOTSRANGE", first, end - 1)
            self.ask(server, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for server, bus_port in zip(self.servers, self._bus_ports, strict=True):
            if server is not self.servers[0]:
                self.ask(self.servers[0], "CLUSTER", "MEET", "127.0.0.1", server.port, bus_port)
        for number, replica in enumerate(self.servers[self._primaries :]):
            name = self.ask(self.servers[number], "CLUSTER", "MYID").decode()
            wait_until(lambda replica=replica, name=name: self._follows(replica, name), PATIENCE_SECONDS)
        self.until_whole()

    def _follows(self, replica: Valkey, primary: str) -> bool:
        try:
            return bool(self.ask(replica, "CLUSTER", "REPLICATE", primary))
        except RedisError:  # it has not heard of its primary yet
            return False

    def _living(self) -> list[Valkey]:
        return [server for server in self.servers if server.alive]

    def _told(self, by: Valkey) -> dict[int, dict[str, Any]]:
        """What one node knows of all, by their ports."""
        told = self.ask(by, "CLUSTER NODES")
        return {int(address.rpartition(":")[2]): facts for address, facts in told.items()}

    def _owner(self, by: Valkey, slot: int) -> Valkey | None:
        """Who has a slot, as one node knows it."""
        told = self._told(by)
        for server in self.servers:
            ranges = told[server.port]["slots"] if server.port in told else []
            if any(int(each[0]) <= slot <= int(each[-1]) for each in ranges):
                return server
        return None

    def _all_say(self, slot: int, owner: Valkey) -> bool:
        return all(self._owner(by, slot) is owner for by in self._living())

    def _agree(self) -> bool:
        """Whether all know the same owners: who was replaced while it was away learns it from the others."""
        views = [self._told(by) for by in self.servers]
        owners = [sorted((port, each["slots"]) for port, each in view.items()) for view in views]
        return all(each == owners[0] for each in owners)

    def _is_well(self, server: Valkey) -> bool:
        """Whether all nodes are known to it, and none as away; a replica follows."""
        if not server.alive or not server.is_ready():
            return False
        told = self._told(server)
        flags = [facts["flags"] for facts in told.values()]
        return (
            len(told) == len(self.servers)
            and not any("fail" in each or "handshake" in each for each in flags)
            and str(self.ask(server, "CLUSTER INFO")["cluster_state"]) == "ok"
            and ("slave" not in told[server.port]["flags"] or self._is_in_step(server))
        )

    def _is_in_step(self, replica: Valkey) -> bool:
        return bool(self.ask(replica, "INFO", "replication")["master_link_status"] == "up")

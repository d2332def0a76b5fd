"""Replicas of a Valkey that a test has for itself: they follow, hang, and take its place."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from redis import Redis as BlockingRedis

from app.embedded import Valkey

PATIENCE_SECONDS = 15.0


class Following:
    """A primary and those that follow it."""

    def __init__(self, primary: Valkey, replicas: list[Valkey], password: str) -> None:
        self.primary = primary
        self.replicas = replicas
        for each in replicas:
            with BlockingRedis.from_url(each.url) as client:
                client.config_set("masterauth", password)
                client.replicaof("127.0.0.1", str(primary.port))
        self.be_in_step()

    def be_in_step(self) -> None:
        """Empty the primary, and return once all replicas go on and have followed."""
        count, deadline = len(self.replicas), time.monotonic() + PATIENCE_SECONDS
        for each in self.replicas:
            self.let_go_on(each)
        with BlockingRedis.from_url(self.primary.url) as client:
            while _online(client) < count:
                assert time.monotonic() < deadline, "the replicas do not follow"
                time.sleep(0.01)
            client.set("in step", 1)
            client.flushall()
            assert count == client.wait(count, int(PATIENCE_SECONDS * 1000))

    @staticmethod
    def halt(server: Valkey) -> None:
        """It hangs: connected, and deaf."""
        os.kill(server.pid, signal.SIGSTOP)

    @staticmethod
    def cut_off(replica: Valkey) -> None:
        """Nothing of the primary reaches it any more, not even what is on its way."""
        with BlockingRedis.from_url(replica.url) as client:
            client.replicaof("127.0.0.1", "1")

    @staticmethod
    def let_go_on(server: Valkey) -> None:
        os.kill(server.pid, signal.SIGCONT)

    def promote(self, replica: Valkey) -> BlockingRedis:
        """The primary dies and this one takes its place. Gives a client of it."""
        self.primary.kill()
        self.let_go_on(replica)
        client = BlockingRedis.from_url(replica.url)
        client.replicaof("NO", "ONE")
        return client


def _online(primary: BlockingRedis) -> int:
    told = primary.info("replication")
    return sum(
        value["state"] == "online"
        for name, value in told.items()
        if name.startswith("slave") and isinstance(value, dict)
    )


@contextmanager
def following(primary: Valkey, folder: Path, password: str, count: int = 1) -> Iterator[Following]:
    """So many replicas of `primary`, without files of their own, in step with it."""
    with ExitStack() as stack, BlockingRedis.from_url(primary.url) as client:
        client.config_set("repl-diskless-sync-delay", "0")
        replicas = []
        for number in range(count):
            replica = Valkey(
                folder / f"replica-{number}",
                folder / f"replica-{number}.log",
                password=password,
                appendonly="no",
            )
            replica.start()
            stack.callback(replica.kill)
            replicas.append(replica)
        yield Following(primary, replicas, password)

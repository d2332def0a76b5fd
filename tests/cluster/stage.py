"""A whole ledger over a cluster: every process of it is real, and the queues have a Valkey of their own."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import count
from pathlib import Path
from random import Random
from subprocess import CompletedProcess

import msgspec

from app.demo.connection import Connections
from app.embedded.ports import free_port
from app.ledger.shards import shard_of
from tests.chaos.storm.asking import Asking
from tests.chaos.storm.inspection import Inspection, inspected
from tests.chaos.storm.records import Applied, Definite, Record
from tests.chaos.storm.stage import SHARDS, Api, Stage
from tests.cluster.servers import Cluster
from tests.folders import reachable_folder
from tests.integration.running import lastro

ACCOUNTS = [
    next(f"counter-{number}" for number in count() if shard_of(f"counter-{number}", SHARDS) == shard)
    for shard in range(SHARDS)
]
"""One in each shard, and none of the town's."""


class OnCluster(Stage):
    """The same as over one Redis, but that nobody spoils the wires between it and its processes."""

    def __init__(self, folder: Path, cluster: Cluster, *, ack: str) -> None:
        super().__init__(folder, apis=1, workers=1, ack=ack)
        self.cluster = cluster
        cluster.spread(SHARDS)

    @property
    def redis_url(self) -> str:
        return self.cluster.url

    async def new_api(self, name: str, redis_url: str) -> Api:
        port = free_port()
        process = self._program(name, redis_url, "api", "--port", str(port))
        self._stack.callback(process.kill)
        return Api(process, None, port)

    @contextmanager
    def workers_at_rest(self) -> Iterator[None]:
        """Nothing is journaled meanwhile."""
        for worker in self.workers:
            os.kill(worker.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for worker in self.workers:
                os.kill(worker.pid, signal.SIGCONT)

    async def lastro(self, *arguments: str) -> "CompletedProcess[str]":
        """A command of an operator, meanwhile everything goes on."""
        settings = self.settings(self.redis_url)
        return await asyncio.to_thread(lastro, *arguments, "--data", str(self.folder / "none"), **settings)


class _Steady(Random):
    """With which nothing happens that has a small chance: nobody hangs up, or gives up."""

    def random(self) -> float:
        return 0.99


class Counter:
    """Somebody who asks for one thing after the other, once each, with an account in each shard.

    `story` tells what came of the last.
    """

    def __init__(self, inspection: Inspection) -> None:
        stage, self._book = inspection.stage, inspection.book
        urls = [api.url for api in stage.apis]
        self._asking = Asking(urls, stage.token, self._book, _Steady(1))
        self._direct = Connections(urls[0], {"Authorization": f"Bearer {stage.token}"})
        self._numbers = count(len(self._book.records))
        self.story = ""

    async def grant(self, shard: int) -> None:
        """Credits, asked for until they are there."""
        record = self._record("grant", shard, 1000, key=f"grant-{next(self._numbers)}")
        await self._asking.ask(self._book.open(record), stubborn=True)
        assert isinstance(record.outcome, Applied)

    async def deduct(self, shard: int) -> Definite | None:
        """A credit. Nothing, when the ledger is away."""
        record = self._record("deduct", shard, 1, mark=f"counter-{next(self._numbers)}")
        await self._asking.ask(self._book.open(record))
        self.story = record.story()
        return record.outcome

    async def batch(self, shards: list[int], *, atomic: bool) -> tuple[int, dict[str, object]]:
        """A credit of the account of each of these; status and body of the answer."""
        asked = [self._record("deduct", each, 1, key=f"batch-{next(self._numbers)}") for each in shards]
        for record in asked:
            self._book.open(record)
        operations = [{"operation": "deduct", **each.body, "idempotencyKey": each.key} for each in asked]
        body = msgspec.json.encode({"atomic": atomic, "operations": operations})
        answer = await self._direct.ask("POST", "/api/credits/batch", {}, body)
        told: dict[str, object] = msgspec.json.decode(answer.body)
        return answer.status, told

    def close(self) -> None:
        self._asking.close()
        self._direct.close()

    def _record(self, verb: str, shard: int, amount: int, *, key: str = "", mark: str = "") -> Record:
        account = ACCOUNTS[shard]
        body = {"accountId": account, "amount": amount} | ({"modelId": mark} if mark else {})
        return Record(verb, account, account, key, body, self._book.known(account), amount, mark)


@asynccontextmanager
async def inspected_on(cluster: Cluster, *, ack: str) -> AsyncIterator[Inspection]:
    """A whole ledger on a cluster, and a town that may begin to ask."""
    with reachable_folder() as folder:
        stage = OnCluster(folder, cluster, ack=ack)
        async with stage, inspected(stage, 1) as inspection:
            yield inspection

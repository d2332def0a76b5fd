"""A whole ledger whose operator sets other addresses, and starts it again."""

import asyncio
import shlex

from persistence import api_keys
from persistence.pool import open_pool
from tests.chaos.scenes import until
from tests.cluster.servers import Cluster
from tests.cluster.stage import OnCluster


class Moving(OnCluster):
    """On one Redis at first. `data` is the folder that says where it is, `key` may do everything."""

    def __init__(self, folder, cluster: Cluster) -> None:
        super().__init__(folder, cluster, ack="memory")
        self.data = folder / ".lastro"
        self.data.mkdir()
        self.key = ""
        self._is_there = False

    @property
    def redis_url(self) -> str:
        return self.cluster.url if self._is_there else self.valkey.url

    async def begin(self) -> None:
        """Make a key, and wait until it serves."""
        pool = await open_pool(self.postgres.url, connections_max=1)
        try:
            self.key = await api_keys.create(pool, "operator", ("spend", "grant", "read", "operate"))
        finally:
            await pool.close()
        await self._serves()

    async def stop(self) -> None:
        """All processes but the servers."""
        for process in self.processes[2:]:
            await asyncio.to_thread(process.stop)

    async def start(self, *, there: bool) -> None:
        """All again, on the cluster or on the Redis from which it came."""
        self.tell(there=there)
        self.workers[:] = [self._program("worker", self.redis_url, "worker")]
        self.cron = self._program("cron", self.redis_url, "cron")
        self.apis[:] = [await self.new_api("api", self.redis_url)]
        for process in self.processes[2:]:
            self._stack.callback(process.kill)
            process.spawn()
        await self._serves()

    def tell(self, *, there: bool) -> None:
        """Have commands find the ledger on the cluster, or on the Redis from which it came."""
        self._is_there = there
        told = {**self.settings(self.redis_url), "LASTRO_PORT": self.apis[0].url.rpartition(":")[2]}
        lines = [f"{name}={shlex.quote(value)}\n" for name, value in told.items()]
        (self.data / "env").write_text("".join(lines))

    async def _serves(self) -> None:
        """Until the API does."""
        self.tell(there=self._is_there)
        await until(self.apis[0].is_ready, 60)

"""What the processes of a whole ledger hold on to, looked at now and then. Where there is /proc (Linux)."""

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
from redis.asyncio import Redis

from app.embedded import Postgres, Process
from app.ledger import keys
from tests.bench.bed import SHARDS
from tests.bench.figures import percentile
from tests.bench.steady import Bound, Series

MIB = 1 << 20
_KIB = 1024

MEMORY = Bound(0.10, 24.0)
MEMORY_OF_POSTGRES = Bound(0.20, 48.0)
"""Its own, without what its processes share. Those that vacuum come and go."""

MEMORY_OF_REDIS = Bound(0.0, 2_000.0, bytes_each=MIB)
"""It remembers keys and endings for a day, and so grows by so many bytes an operation, and not more."""

CONNECTIONS = Bound(0.10, 4.0)
FILES = Bound(0.10, 8.0)
P50, P99 = Bound(0.50, 5.0), Bound(0.75, 10.0)
LAG = Bound(0.50, 250.0)

_ESTABLISHED = "01"

_CURSORS = "SELECT shard, cursor FROM shards"
_SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"


class _At(msgspec.Struct):
    at_ms: int


_at = msgspec.json.Decoder(_At).decode


class Gauges:
    """Everything that must stay level. `processes` by the names under which they are told; `ports` of those
    that serve others: how many connections these keep is their own affair, and not counted.
    """

    def __init__(
        self,
        processes: Mapping[str, Process],
        ports: Mapping[str, int],
        postgres: Postgres,
        redis: Redis,
        connection: asyncpg.Connection,
    ) -> None:
        self._processes = processes
        self._ports = ports
        self._postgres = postgres
        self._redis = redis
        self._connection = connection
        self._seen: dict[tuple[str, str, Bound], list[float]] = defaultdict(list)
        self.operations: list[int] = []

    @property
    def series(self) -> list[Series]:
        return [Series(name, unit, bound, seen) for (name, unit, bound), seen in self._seen.items()]

    async def look(self, operations: int, times: Sequence[float]) -> None:
        """Args: how many were answered so far, and how long those since the last look took (seconds)."""
        self.operations.append(operations)
        for name, process in self._processes.items():
            bound = MEMORY_OF_REDIS if name == "valkey" else MEMORY
            self._note(f"{name}: memory", "MiB", bound, _field(process.pid, "status", "VmRSS") / MIB)
            served = connections_to(self._ports[name]) if name in self._ports else 0
            self._note(f"{name}: open files", "files", FILES, open_files(process.pid) - served)
        own = sum(_field(pid, "smaps_rollup", "Pss_Anon") for pid in family(self._postgres.pid))
        self._note("postgresql: memory", "MiB", MEMORY_OF_POSTGRES, own / MIB)
        clients = (await self._redis.info("clients"))["connected_clients"]
        self._note("valkey: connections", "connections", CONNECTIONS, clients)
        sessions = await self._connection.fetchval(_SESSIONS)
        self._note("postgresql: connections", "connections", CONNECTIONS, sessions)
        ordered = sorted(times)
        self._note("p50", "ms", P50, 1000 * percentile(ordered, 0.5))
        self._note("p99", "ms", P99, 1000 * percentile(ordered, 0.99))
        self._note("journal's lag", "ms", LAG, await self._lag_ms())

    def _note(self, name: str, unit: str, bound: Bound, value: float) -> None:
        self._seen[name, unit, bound].append(value)

    async def _lag_ms(self) -> float:
        """How old the oldest entry is that PostgreSQL lacks; 0 where it lacks none."""
        cursors = await self._connection.fetch(_CURSORS)
        assert len(cursors) == SHARDS
        async with self._redis.pipeline(transaction=False) as both:
            for shard, cursor in cursors:
                both.xrange(keys.journal(shard), f"({cursor}-0", count=1)
            found: list[Any] = await both.execute()
        oldest = [_at(fields[b"entry"]).at_ms for page in found for _, fields in page]
        return max(0.0, time.time() * 1000 - min(oldest)) if oldest else 0.0


def _field(pid: int, file: str, name: str) -> int:
    """Bytes of a line of /proc; 0 of a process that has ended meanwhile."""
    with suppress(FileNotFoundError, ProcessLookupError):
        for line in Path(f"/proc/{pid}/{file}").read_text(encoding="ascii").splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * _KIB
    return 0


def open_files(pid: int) -> int:
    """How many a process has open, sockets with them."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def connections_to(port: int) -> int:
    """How many clients of this machine have a connection to a port that neither side has closed."""
    count = 0
    for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]:
        _, local, _, state, *_ = line.split()
        count += local.endswith(f":{port:04X}") and state == _ESTABLISHED
    return count


def family(pid: int) -> list[int]:
    """A process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    return [pid, *map(int, children.split())]

"""On what it was measured. No names of hosts, no paths."""

import os
import platform
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from redis import Redis

from app.embedded.unprivileged import postgres_programs
from tests.bench.bed import Bed
from tests.bench.load import WRK

_GIB = 1 << 30
_PACES = 20


def pace_ms() -> float:
    """How long 100,000 additions in Python take at best: a yardstick for the moment."""
    times = []
    for _ in range(_PACES):
        begun, total = time.perf_counter(), 0
        for number in range(100_000):
            total += number
        times.append(time.perf_counter() - begun)
    return 1000 * min(times)


def described(bed: Bed, paces_ms: Sequence[float]) -> dict[str, str]:
    """What people ask for when they compare numbers. `paces_ms`: taken between the rows."""
    return {
        "processor": f"{_processor()}, {len(os.sched_getaffinity(0))} cores",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / _GIB:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release().split('-')[0]}",
        "Python": platform.python_version(),
        "Valkey": _valkey(bed),
        "PostgreSQL": _said(str(postgres_programs() / "postgres"), "--version").split()[-1],
        "pace": f"{min(paces_ms):.1f} to {max(paces_ms):.1f} ms for 100,000 additions in Python between rows",
        "load": _load(),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()


def _valkey(bed: Bed) -> str:
    server = bed.valkey("none")
    with Redis.from_url(server.url) as client:
        version = str(client.info("server")["valkey_version"])
    server.stop()
    return version


def _load() -> str:
    if WRK is None:
        return "our own asyncio generator (wrk is not installed)"
    said = _said(WRK, "--version").split()
    return (
        f"wrk {said[1] if len(said) > 1 else ''}, and where every answer is checked our own asyncio generator"
    )


def _said(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).splitlines()[0]

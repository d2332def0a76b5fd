"""What all lines of a process have in common."""

from typing import NamedTuple

from msgspec import Struct
from redis.asyncio import Redis

from app.ledger.scripts import Script
from app.ledger.serving import Serving
from app.ledger.tally import Tally


class Limits(Struct, frozen=True, kw_only=True):
    """Bounds of one process (`queue_max`: of each line), and of the journal's backlog in each shard."""

    queue_max: int = 10_000
    batch_operations_max: int = 256
    request_seconds: float = 5.0
    backlog_max: int = 1_000_000
    backlog_bytes_max: int = 268_435_456


class Shared(NamedTuple):
    """`serving`: the terms under which this process calls. `tally`: what it has done."""

    redis: Redis
    script: Script
    serving: Serving
    tally: Tally
    limits: Limits

"""What a worker process has to be told."""

from msgspec import Struct

from persistence.backup.scheduled import Plan

SLICE_SECONDS = 2.0


class Work(Struct, frozen=True, kw_only=True):
    """`queue_url` is the Redis of RQ's queues, `redis_url` the ledger's; they may be the same server."""

    redis_url: str
    queue_url: str
    database_url: str
    stream_keep_seconds: int = 3600
    stream_keep_bytes: int = 268_435_456
    retention_days: int = 90
    cleanup_seconds: int = 600
    backups: Plan | None = None
    events_to_private: bool = False
    poll_keys: dict[str, str] = {}
    webhook_units: str = ""
    webhook_takes_back: bool = False
    slice_seconds: float = SLICE_SECONDS

from typing import Annotated

from msgspec import Meta, Struct

from app.settings.wording import left_out, variable

MIB = 1024 * 1024


class OfLedger(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename=variable):
    """The ledger and the servers it stands on."""

    redis_url: Annotated[
        str,
        Meta(
            description="The Redis or Valkey that holds the ledger; `redis+cluster://` before any node of a"
            " cluster"
        ),
    ]
    database_url: Annotated[str, Meta(description="The PostgreSQL that holds the journal")]
    queue_url: Annotated[
        str, left_out("`LASTRO_REDIS_URL`", "That of the job queues, which is no cluster")
    ] = ""
    shards: Annotated[
        int, Meta(ge=1, le=4096, description="Slices of the accounts; fixed when the ledger is born")
    ] = 16
    host: Annotated[str, Meta(min_length=1, description="Where the API listens")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=1, le=65535, description="Where the API listens")] = 8000
    ack: Annotated[
        str,
        Meta(
            description="What an answer waits for: `memory`, `fsync` (Redis' disk) or `replicated=N`"
            " (N replicas); docs/acknowledging.md"
        ),
    ] = "memory"
    backlog_max: Annotated[
        int, Meta(ge=1, description="Entries not yet in PostgreSQL above which nothing new is taken on")
    ] = 1_000_000
    backlog_bytes_max: Annotated[int, Meta(ge=MIB, description="The same in bytes")] = 256 * MIB
    stream_keep_seconds: Annotated[
        int, Meta(ge=0, description="How long Redis keeps entries that PostgreSQL has")
    ] = 3600
    stream_keep_bytes: Annotated[int, Meta(ge=0, description="How many bytes of them at most")] = 256 * MIB
    holds_max: Annotated[int, Meta(ge=1, description="Open reservations of one account")] = 10_000
    queue_max: Annotated[
        int, Meta(ge=1, description="Operations that wait in one process (on a cluster: for one shard)")
    ] = 10_000
    batch_max: Annotated[int, Meta(ge=1, le=1000, description="Operations in one call of the script")] = 256
    request_seconds: Annotated[
        float, Meta(gt=0, le=60, description="How long a request waits for the ledger")
    ] = 5.0
    reservation_retention_days: Annotated[
        int,
        Meta(
            ge=7,
            le=36_500,
            description="After how many days a settled reservation is no longer listed; docs/cleaning.md",
        ),
    ] = 90
    cleanup_interval_seconds: Annotated[
        int, Meta(ge=300, le=604_800, description="How often that is looked for; docs/cleaning.md")
    ] = 600
    backup_dir: Annotated[
        str, left_out("none are taken", "Folder for backups that are taken by themselves, of workers")
    ] = ""
    backup_seconds: Annotated[int, Meta(ge=60, description="How long it is from one to the next")] = 86_400
    backup_keep: Annotated[int, Meta(ge=1, description="How many of them stay")] = 14

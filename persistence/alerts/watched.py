"""What the settings say about health and alerts, and what each process makes of it."""

from collections.abc import Callable, Mapping
from typing import Self

from msgspec import Struct
from redis.asyncio import Redis

from app.alerts import channel_urls
from app.queues import Queues
from app.rules import Rule, read_rules
from app.settings import Settings
from persistence.alerts.heartbeat import Heartbeat
from persistence.alerts.telling import Channels
from persistence.alerts.watching import Watching
from persistence.doctor.between import Bounds
from persistence.health.looking import Looking
from persistence.pool import Pool


class Watched(Struct, frozen=True, kw_only=True):
    """`alert_urls` and `heartbeat_url` are secrets."""

    thresholds: str = ""
    alert_urls: str = ""
    heartbeat_url: str = ""
    bounds: Bounds = Bounds()
    cleanup_seconds: int = 600

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """As they are set."""
        return cls(
            thresholds=settings.thresholds,
            alert_urls=settings.alert_urls,
            heartbeat_url=settings.heartbeat_url,
            bounds=Bounds(
                acknowledgement=settings.acknowledgement,
                backlog_max=settings.backlog_max,
                backlog_bytes_max=settings.backlog_bytes_max,
                backup_seconds=settings.backup_seconds,
            ),
            cleanup_seconds=settings.cleanup_interval_seconds,
        )

    @property
    def rules(self) -> Mapping[str, Rule]:
        """With the thresholds as they are set."""
        return read_rules(self.thresholds)

    def looking(self, pool: Pool, redis: Redis, queues: Queues) -> Looking:
        """Who looks; `pool` has two connections at least."""
        seconds = self.cleanup_seconds
        return Looking(pool, redis, queues, self.rules, self.bounds, cleanup_seconds=seconds)

    def by_worker(self, queues: Queues) -> Callable[[Pool, Redis], Watching]:
        """Makes who looks and judges in a worker."""

        def made(pool: Pool, redis: Redis) -> Watching:
            return self.watching(pool, redis, self.looking(pool, redis, queues), is_worker=True)

        return made

    def watching(self, pool: Pool, redis: Redis, looking: Looking, *, is_worker: bool) -> Watching:
        """Who judges and tells, with the same pool."""
        channels = Channels(channel_urls(self.alert_urls))
        return Watching(pool, redis, looking, channels, Heartbeat(self.heartbeat_url), is_worker=is_worker)

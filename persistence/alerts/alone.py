"""An API process that judges alone, because PostgreSQL is away: it tells at once, and remembers what, until
it can be kept.

Of several such processes one judges, as long as Redis answers; if nothing answers all of them do, because to
be told twice is better than not at all.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.alerts import Alert
from app.ledger import keys
from persistence.alerts.edges import Change, Key
from persistence.alerts.notices import BACKOFF_SECONDS
from persistence.alerts.telling import Channels
from persistence.alerts.wording import notice_of

CHANGES_MAX = 1_000


class Alone:
    """Of one process.

    Args:
        redis: Where those who are alone agree on one.
        channels: Who is told.
        name: Of this process.
    """

    def __init__(self, redis: Redis, channels: Channels, name: str) -> None:
        self._redis = redis
        self._channels = channels
        self._name = name
        self.firing: dict[Key, Alert] = {}
        self.changes: list[Change] = []
        self.told: dict[int, list[str]] = {}
        self._tries: dict[int, tuple[int, datetime]] = {}

    def begin(self, firing: Mapping[Key, Alert]) -> None:
        """What fired when PostgreSQL was asked last."""
        self.firing = dict(firing)
        self.changes, self.told, self._tries = [], {}, {}

    async def is_judge(self, seconds: float) -> bool:
        """Whether this process is the one, for the next `seconds`."""
        name, lease_ms = keys.alone(), int(seconds * 1000)
        try:
            if await self._redis.set(name, self._name, nx=True, px=lease_ms):
                return True
            holder = await self._redis.get(name)
            if holder != self._name.encode():
                return False
            await self._redis.pexpire(name, lease_ms)
        except (RedisError, OSError):
            return True
        return True

    async def heed(self, changes: Sequence[Change], now: datetime) -> None:
        """Remember them, and tell them, and after a while what somebody could not be told before."""
        for change in changes:
            key = change.alert.rule, change.alert.subject
            if change.what == "over":
                self.firing.pop(key, None)
            else:
                self.firing[key] = change.alert
        self.changes += changes[: CHANGES_MAX - len(self.changes)]
        await self._tell(now)

    async def _tell(self, now: datetime) -> None:
        """Who does not answer is waited for once a round, so that it stays one, and this process the judge;
        and what is new goes before what was refused.
        """
        deaf: set[str] = set()
        due = [
            (*self._tries.get(place, (0, now)), place)
            for place in range(len(self.changes))
            if not set(self.told.setdefault(place, [])) >= set(self._channels.ids)
        ]
        for tries, at, place in sorted(due):
            told = self.told[place]
            skipped = {*told, *deaf}
            if at > now or skipped >= set(self._channels.ids):
                continue
            sent = await self._channels.tell(notice_of(self.changes[place]), skipped)
            failed = {channel for channel, why in sent.items() if why is not None}
            told += [channel for channel in sent if channel not in failed]
            deaf |= failed
            if failed:
                pause_seconds = BACKOFF_SECONDS[min(tries, len(BACKOFF_SECONDS) - 1)]
                self._tries[place] = tries + 1, now + timedelta(seconds=pause_seconds)

"""An API process that judges alone, because PostgreSQL is away: it tells at once, and remembers what, until
it can be kept.

Of several such processes one judges, as long as Redis answers; if nothing answers all of them do, because to
be told twice is better than not at all.
"""

from collections.abc import Mapping, Sequence

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.alerts import Alert
from app.ledger import keys
from persistence.alerts.edges import Change, Key
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

    def begin(self, firing: Mapping[Key, Alert]) -> None:
        """What fired when PostgreSQL was asked last."""
        self.firing = dict(firing)
        self.changes, self.told = [], {}

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

    async def heed(self, changes: Sequence[Change]) -> None:
        """Remember them, and tell them, and what somebody could not be told before."""
        for change in changes:
            key = change.alert.rule, change.alert.subject
            if change.what == "over":
                self.firing.pop(key, None)
            else:
                self.firing[key] = change.alert
        self.changes += changes[: CHANGES_MAX - len(self.changes)]
        for place, change in enumerate(self.changes):
            told = self.told.setdefault(place, [])
            if set(told) >= set(self._channels.ids):
                continue
            sent = await self._channels.tell(notice_of(change), told)
            told += [channel for channel, why in sent.items() if why is None]

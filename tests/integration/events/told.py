"""What must be told of a history: added up from the streams of Redis, entry by entry, without a journal.

It knows an account by its last entry, a reservation by what its legs hold, and nothing of levels or cursors.
"""

from collections.abc import Iterable, Iterator

import msgspec
from redis.asyncio import Redis

from app.ledger import keys
from app.ledger.entries import Entry
from persistence.backing import decode_entry

Told = tuple[str, str, str]
"""Type, account, transaction."""


async def entries(redis: Redis, shard: int) -> list[tuple[int, Entry]]:
    """All of a stream that was never trimmed."""
    return [
        (int(id_.split(b"-")[0]), decode_entry(fields[b"entry"]))
        for id_, fields in await redis.xrange(keys.journal(shard))
    ]


class _History:
    """What is known after some entries."""

    def __init__(self) -> None:
        self._thresholds: dict[str, int] = {}
        self._quiet_low: dict[str, bool] = {}
        self._quiet_depleted: dict[str, bool] = {}
        self._holds: dict[str, int] = {}

    def ending(self, entry: Entry) -> Iterator[str]:
        if entry.reservation is None or entry.kind == "refunded":
            return
        held = self._holds.get(entry.reservation, 0) + sum(leg.held for leg in entry.legs)
        self._holds[entry.reservation] = held
        if entry.kind in ("cancelled", "expired"):
            yield f"reservation.{entry.kind}"
        elif entry.kind == "confirmed" and held == 0:
            yield "reservation.confirmed_late" if entry.late else "reservation.confirmed"

    def fall(self, entry: Entry) -> Iterator[str]:
        """Of an account that is new nothing is told before it has had something."""
        account, available = entry.account, entry.available
        if entry.kind == "configured" and entry.low_balance is not None:
            self._thresholds[account] = entry.low_balance
        threshold = self._thresholds.get(account, 0)
        if available >= 1.1 * threshold or threshold == 0:
            self._quiet_low[account] = False
        if available > 0 and available >= 1.1 * threshold:
            self._quiet_depleted[account] = False
        if 0 < threshold and available < threshold and not self._quiet_low.get(account, False):
            self._quiet_low[account] = True
            yield "balance.low"
        if available <= 0 and not self._quiet_depleted.get(account, True):
            self._quiet_depleted[account] = True
            yield "balance.depleted"


def must_be_told(shard: int, stream: Iterable[tuple[int, Entry]]) -> list[Told]:
    """In order."""
    history = _History()
    return [
        (type_, entry.account, f"{shard}-{entry.incarnation}-{sequence}")
        for sequence, entry in stream
        for type_ in (*history.ending(entry), *history.fall(entry))
    ]


TOLD = "SELECT type, account, body FROM events ORDER BY number"


async def were_told(database, shard: int) -> list[Told]:
    """What was told of a shard, in order."""
    found = [
        (type_, account, msgspec.json.decode(body)["data"]["transactionId"])
        for type_, account, body in await database.fetch(TOLD)
    ]
    return [each for each in found if each[2].startswith(f"{shard}-")]

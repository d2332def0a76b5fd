"""Waits until PostgreSQL has an entry: `Lastro-Ack: journaled`.

However many wait, one poller asks for all of them, and only while there are any. It asks how far the shards
concerned have come, and reads the rows of those waiters only whose sequence has been passed.
"""

import asyncio
from collections import defaultdict

import msgspec
from msgspec import Struct

from app.ledger.backing import BackingUnavailable
from app.ledger.shards import TransactionId
from persistence.pool import Pool, answering

WAIT_SECONDS = 5.0
POLL_SECONDS = 0.02
ANSWER_SECONDS = 1.0
WAITING_MAX = 10_000

_Place = tuple[int, int]


class _Written(Struct, frozen=True):
    """What of an entry tells it from another one that might stand in its place after a loss."""

    incarnation: int
    nonce: str


_decode = msgspec.json.Decoder(_Written).decode


class Journaled:
    """One for each API process. `poll_seconds`: how long between two questions while somebody waits."""

    def __init__(self, pool: Pool, *, poll_seconds: float = POLL_SECONDS) -> None:
        self._pool = pool
        self._poll_seconds = poll_seconds
        self._waiting: dict[_Place, set[asyncio.Future[_Written]]] = defaultdict(set)
        self._poller: asyncio.Task[None] | None = None

    async def journaled(self, transaction: TransactionId, nonce: str) -> bool:
        """`wait`, for at most 5 s."""
        return await self.wait(
            transaction.shard, transaction.sequence, nonce, transaction.incarnation, WAIT_SECONDS
        )

    async def wait(
        self, shard: int, sequence: int, nonce: str, incarnation: int, seconds: float = WAIT_SECONDS
    ) -> bool:
        """Whether the journal has this very entry: the one that this call wrote under this incarnation.

        `False` as soon as another entry stands in its place, and after `seconds` in any case: because the
        journal lags, PostgreSQL is away, or more than `WAITING_MAX` entries are waited for.
        """
        place = (shard, sequence)
        if place not in self._waiting and len(self._waiting) >= WAITING_MAX:
            return False
        answer: asyncio.Future[_Written] = asyncio.get_running_loop().create_future()
        self._waiting[place].add(answer)
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll(), name="journaled")
        try:
            async with asyncio.timeout(seconds):
                return await answer == _Written(incarnation, nonce)
        except TimeoutError:
            return False
        finally:
            if others := self._waiting.get(place):
                others.discard(answer)
                if not others:
                    del self._waiting[place]

    async def _poll(self) -> None:
        while self._waiting:
            try:
                await self._ask()
            except BackingUnavailable:
                pass  # whoever waits has a time-out
            except Exception as error:  # noqa: BLE001 (raised where the answer is awaited)
                for answers in self._waiting.values():
                    for answer in answers:
                        if not answer.done():
                            answer.set_exception(error)
            await asyncio.sleep(self._poll_seconds)

    CURSORS = "SELECT shard, cursor FROM shards WHERE shard = ANY($1::integer[])"

    ENTRIES = """
    SELECT shard, seq, entry FROM journal
    JOIN unnest($1::integer[], $2::bigint[]) AS wanted (shard, seq) USING (shard, seq)
    """

    async def _ask(self) -> None:
        wanted = list(self._waiting)
        async with answering(self._pool, ANSWER_SECONDS) as connection:
            rows = await connection.fetch(self.CURSORS, list({shard for shard, _ in wanted}))
            cursors = {row["shard"]: row["cursor"] for row in rows}
            passed = [place for place in wanted if place[1] <= cursors.get(place[0], 0)]
            if not passed:
                return
            rows = await connection.fetch(self.ENTRIES, *map(list, zip(*passed, strict=True)))
        for shard, sequence, entry in rows:
            written = _decode(entry)
            for answer in self._waiting.get((shard, sequence), ()):
                if not answer.done():
                    answer.set_result(written)

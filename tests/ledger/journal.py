"""A journal that keeps what the streams had before they were trimmed, and may be away."""

from collections.abc import Awaitable, Callable, Sequence

import msgspec

from app.ledger import keys
from app.ledger.backing import BackingUnavailable, Extent, Keyed, Recorded, Refunded
from app.ledger.ledger import Ledger
from app.ledger.replies import Reservation
from tests.engine import Clock, Streams, answered_by, refunded_by

DAY_MS = 86_400_000


class Journal(Streams):
    """Knows what it has caught up with. `asked` counts its questions, by name. `meanwhile` happens once,
    after it has looked for a key or a refund and before anybody has heard the answer.
    """

    away = False
    meanwhile: Callable[[], Awaitable[None]] | None = None

    def __init__(self, *args) -> None:
        super().__init__(*args)
        self.known: dict[tuple[int, int], Recorded] = {}
        self.ended: dict[str, Reservation] = {}
        self.asked: dict[str, int] = {}

    async def recorded(self, places: Sequence[tuple[int, int]]) -> dict[tuple[int, int], Recorded]:
        self._ask("recorded")
        return {place: self.known[place] for place in places if place in self.known}

    async def accounts_known(self, accounts: Sequence[str]) -> set[str]:
        self._ask("accounts_known")
        return {each.entry.account for each in self.known.values()} & {*accounts}

    async def answered(self, keys: Sequence[Keyed]) -> dict[Keyed, Recorded | Extent]:
        self._ask("answered")
        found = answered_by(self._known(), keys)
        await self._happens()
        return found

    async def refunded(self, places: Sequence[tuple[int, int]]) -> dict[tuple[int, int], Refunded]:
        self._ask("refunded")
        found = refunded_by(self._known(), places)
        await self._happens()
        return found

    async def reservations(self, ids: Sequence[str]) -> dict[str, Reservation]:
        self._ask("reservations")
        return {id_: self.ended[id_] for id_ in ids if id_ in self.ended}

    async def tasks(self, tasks: Sequence[tuple[str | None, str]]) -> dict[tuple[str | None, str], str]:
        self._ask("tasks")
        return {}

    def _known(self) -> list[tuple[int, Recorded]]:
        return [(shard, each) for (shard, _), each in self.known.items()]

    async def _happens(self) -> None:
        happening, self.meanwhile = self.meanwhile, None
        if happening:
            await happening()

    def _ask(self, question: str) -> None:
        self.asked[question] = self.asked.get(question, 0) + 1
        if self.away:
            raise BackingUnavailable("PostgreSQL is away")

    async def catch_up(self, *, trimming: bool = True) -> None:
        """Know all entries; the streams let them go, or still keep them for a while."""
        for shard in range(self.terms.shards):
            for each in await self.entries(shard):
                self.known[shard, each.sequence] = each
            sequence, size = await self._redis.hmget(keys.meta(shard), ["sequence", "bytes"])
            caught_up = {"journaled": sequence, "journaled_bytes": size, "oldest_ms": 0}
            await self._redis.hset(keys.meta(shard), mapping=caught_up)
            if trimming:
                await self._redis.xtrim(keys.journal(shard), maxlen=0, approximate=False)

    async def forget(self, ledger: Ledger, reservation_id: str) -> None:
        """Redis forgets a reservation, as it does 24 h after the end."""
        self.ended[reservation_id] = await ledger.find(reservation_id)
        await self._redis.delete(*await self._redis.keys(f"*:reservation:{reservation_id}"))

    async def a_day_passes(self, ledger: Ledger, clock: Clock) -> None:
        """Redis forgets what it remembers for a day; whatever was due in it has happened."""
        await self.catch_up()
        await clock.advance(DAY_MS)
        for shard in range(self.terms.shards):
            await ledger.pass_time(shard)
        await self.catch_up()
        for name in await self._redis.keys("lastro:*:reservation:*"):
            reservation = msgspec.json.decode(await self._redis.get(name), type=Reservation)
            if reservation.status != "pending":
                self.ended[reservation.id] = reservation
                await self._redis.delete(name)
        await self.forget_keys()

    async def forget_keys(self) -> None:
        """Redis forgets what was answered to keys and what was given back, as it does 24 h later."""
        for kind in ("operation", "refunded"):
            for name in await self._redis.keys(f"lastro:*:{kind}:*"):
                await self._redis.delete(name)

"""What can be asked of a ledger without changing it; what is not known here is looked up in the journal."""

from collections.abc import Sequence
from typing import TypeVar

from app.ledger.asked import says
from app.ledger.batcher import Batcher
from app.ledger.errors import LedgerError, ReservationNotFound
from app.ledger.operations import Balance, Refund
from app.ledger.past import Past, Task
from app.ledger.present import Present
from app.ledger.receipts import Holdings, error_of
from app.ledger.refunds import RefundOf, Refunds
from app.ledger.replies import Applied, Reservation
from app.ledger.shards import (
    TransactionId,
    new_reservation_id,
    shard_of,
    shard_of_reservation,
    shard_of_task,
)

T = TypeVar("T")


class Reading:
    """Every method may raise `Unavailable` errors."""

    def __init__(self, batcher: Batcher, past: Past) -> None:
        self._count = 0
        self._batcher = batcher
        self._present = Present(batcher, past)
        self._refunds = Refunds(past, self._present)

    def now_ms(self) -> int:
        """Redis' time as far as this process knows it, for ids; nothing is judged by it."""
        return self._batcher.clock.now_ms()

    async def new_reservation_id(self, account: str) -> str:
        """An id for a reservation of this account, a UUIDv7 of Redis' time: also the first of a process.

        Raises:
            LedgerUnavailable: Redis has not told the time yet, and is away.
        """
        await self._batcher.clock.learn()
        return new_reservation_id(shard_of(account, self._count or await self._learn_count()), self.now_ms())

    async def balance(self, account: str, *, reservations: bool = False) -> Holdings:
        """An account as it is now, by Redis' time.

        Raises:
            AccountNotFound
        """
        shard = shard_of(account, self._count or await self._learn_count())
        result, reply = await self._batcher.submit(Balance(shard=shard, account=account, open=reservations))
        if isinstance(result, Applied):
            return Holdings(
                reply.accounts[result.account], [reply.reservations[index] for index in result.open or ()]
            )
        if says((result, reply), "account_unknown"):
            raise await self._unknown(account, shard)
        raise error_of(result)

    async def find(self, reservation_id: str) -> Reservation:
        """A reservation as it is now; from the journal when Redis has forgotten it.

        Raises:
            ReservationNotFound
        """
        return returned((await self.find_all([reservation_id]))[0])

    async def find_all(self, reservation_ids: Sequence[str]) -> list[Reservation | LedgerError]:
        """The same for many at once, in order."""
        count = self._count or await self._learn_count()
        shards = {id_: shard_of_reservation(id_, count) for id_ in reservation_ids}
        found = await self._present.all_reservations(
            {id_: shard for id_, shard in shards.items() if shard is not None}
        )
        return [found.get(id_) or ReservationNotFound() for id_ in reservation_ids]

    async def locate(self, provider: str | None, task: str) -> str:
        """The id of the reservation that a provider's task belongs to; the latest when there were several.

        Raises:
            ReservationNotFound
        """
        return returned((await self.locate_all([(provider, task)]))[0])

    async def locate_all(self, tasks: Sequence[Task]) -> list[str | LedgerError]:
        """The same for many at once, in order."""
        count = self._count or await self._learn_count()
        found = await self._present.tasks({task: shard_of_task(*task, count) for task in tasks})
        return [found[task] for task in tasks]

    async def refunding(
        self,
        transaction: TransactionId | None = None,
        reservation: str | None = None,
        *,
        of: str | None = None,
    ) -> Refund:
        """The refund of a transaction, or of what a reservation has spent, to be filled in and asked for.

        Raises:
            TransactionNotFound, ReservationNotFound
        """
        named = RefundOf(transaction=transaction, reservation=reservation, of=of)
        return returned((await self.refunding_all([named]))[0])

    async def refunding_all(self, named: Sequence[RefundOf]) -> list[Refund | LedgerError]:
        """The same for many at once, in order."""
        count = self._count or await self._learn_count()
        return await self._refunds.resolve(named, count, self.now_ms)

    async def _unknown(self, account: str, shard: int) -> LedgerError:
        """What is to be said of an account that Redis did not know."""
        return (await self._present.unknown({account: shard}))[account]

    async def _learn_count(self) -> int:
        """How many shards the ledger has: fixed at its birth, known after the first admission."""
        self._count = (await self._batcher.serving.agreed()).shards
        return self._count


def returned(outcome: T | LedgerError) -> T:
    """What came of it, or the error raised."""
    if isinstance(outcome, LedgerError):
        raise outcome
    return outcome

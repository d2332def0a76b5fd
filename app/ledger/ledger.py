"""The ledger as the rest of the program sees it: one method per verb, one answer or one error each."""

import base64
import hashlib
from collections.abc import Awaitable
from typing import TypeVar

import msgspec
from msgspec import Struct
from redis.asyncio import Redis

from app.ledger import errors, scripts
from app.ledger.acknowledged import Acknowledged
from app.ledger.backing import Backing, BackingUnavailable, Recorded, Terms
from app.ledger.batcher import Batcher, Limits
from app.ledger.entries import Entry
from app.ledger.errors import LedgerError, LedgerFenced, LedgerUnavailable, ReservationNotFound
from app.ledger.forgotten import settled_outcome
from app.ledger.operations import (
    Balance,
    Bind,
    Cancel,
    Confirm,
    Deduct,
    Find,
    Grant,
    Locate,
    Operation,
    Reserve,
    Sweep,
    Write,
)
from app.ledger.replicas import Replicas
from app.ledger.replies import Account, Applied, Declined, Located, Reply, Reservation
from app.ledger.scripts import Script
from app.ledger.shards import TransactionId, new_reservation_id, shard_of, shard_of_reservation

T = TypeVar("T")

_ERRORS = errors.leaves()
_canonical = msgspec.json.Encoder(order="sorted").encode


def fingerprint(verb: str, body: Struct) -> str:
    """What a key is compared by: the verb and the request's canonical JSON, as 16 URL-safe characters.

    The struct should omit its defaults, so that one named and one left out are the same request.
    """
    digest = hashlib.blake2b(verb.encode() + b" " + _canonical(body), digest_size=12).digest()
    return base64.urlsafe_b64encode(digest).decode()


class Receipt(Struct, frozen=True):
    """What an operation did, first time or replayed. `account` and `reservation` are as they are now."""

    shard: int
    sequence: int
    entry: Entry
    notes: str | None
    account: Account
    reservation: Reservation | None
    replayed: bool

    @property
    def transaction(self) -> TransactionId:
        return TransactionId(self.shard, self.entry.incarnation, self.sequence)


class Holdings(Struct, frozen=True):
    """An account and, where they were asked for, its open reservations by deadline, of the same moment."""

    account: Account
    reservations: list[Reservation]


class Ledger:
    """Moves credits. One instance per process; its methods may be awaited from any number of tasks.

    Every method may raise `Unavailable` errors; after those, repeating with the same key is safe.
    """

    def __init__(
        self,
        redis: Redis,
        backing: Backing,
        limits: Limits | None = None,
        script: Script | None = None,
        replicas: Replicas | None = None,
    ) -> None:
        self.acknowledged = Acknowledged()
        self._count = 0
        self._backing = backing
        self._batcher = Batcher(redis, script or scripts.load("apply"), backing, limits or Limits(), replicas)

    async def start(self) -> None:
        """Begin to carry operations; Redis and PostgreSQL need not be there yet."""
        self._batcher.start()

    async def stop(self) -> None:
        """Finish what is waiting, then end."""
        await self._batcher.stop()

    @property
    def terms(self) -> Terms | None:
        """What this process and its Redis agreed on last; `None` while it may not serve."""
        return self._batcher.terms

    @property
    def why_not(self) -> str:
        """Why `terms` is `None`, in words."""
        return self._batcher.why_not

    def adopt(self, terms: Terms) -> None:
        """Serve under these terms from the next call on."""
        self._batcher.terms = terms

    def dismiss(self, why_not: str) -> None:
        """Serve nothing before Redis has been admitted again."""
        self._batcher.terms, self._batcher.why_not = None, why_not

    def heed_memory(self, *, is_short: bool) -> None:
        """Take on nothing new while memory is short; what was begun is ended, and reading goes on."""
        self._batcher.memory_is_short = is_short

    def now_ms(self) -> int:
        """Redis' time as far as this process knows it, for ids; nothing is judged by it."""
        return self._batcher.now_ms()

    async def new_reservation_id(self, account: str) -> str:
        """An id for a reservation of this account."""
        return new_reservation_id(shard_of(account, self._count or await self._learn_count()), self.now_ms())

    async def grant(self, operation: Grant) -> Receipt:
        """Add credits to a bucket; opens the account when neither Redis nor the journal knows it.

        Raises:
            AlreadyExpired, LimitReached, BalanceOverflow, IdempotencyMismatch
        """
        operation.shard = shard_of(operation.account, self._count or await self._learn_count())
        result, reply = await self._batcher.submit(operation)
        if type(result) is Declined and result.word == "account_unknown":
            await self._unknown_to_the_journal(operation.account, operation.shard)
            opening = msgspec.structs.replace(operation, open=True)
            result, reply = await self._batcher.submit(opening)
        return await self._receipt(operation, result, reply)

    async def deduct(self, operation: Deduct) -> Receipt:
        """Spend credits at once.

        Raises:
            AccountNotFound, CreditsHeld, InsufficientCredits, IdempotencyMismatch
        """
        return await self._of_account(operation, operation.account)

    async def reserve(self, operation: Reserve) -> Receipt:
        """Set credits aside until the job is confirmed, cancelled or out of time.

        Raises:
            AccountNotFound, TaskConflict, LimitReached, CreditsHeld, InsufficientCredits, IdempotencyMismatch
        """
        if operation.task is not None:
            operation.task_shard = await self._task_shard(operation.provider, operation.task)
        return await self._of_account(operation, operation.account)

    async def confirm(self, operation: Confirm) -> Receipt:
        """Spend what a reservation holds, or a part of it. Again: the same answer, for ever.

        Raises:
            ReservationNotFound, ReservationCancelled, ReservationExpired, ExceedsReservation,
            IdempotencyMismatch
        """
        return await self._of_reservation(operation)

    async def cancel(self, operation: Cancel) -> Receipt:
        """Give back what a reservation holds. Again: the same answer, for ever.

        Raises:
            ReservationNotFound, ReservationConfirmed, ReservationExpired, IdempotencyMismatch
        """
        return await self._of_reservation(operation)

    async def bind(self, operation: Bind) -> Receipt:
        """Name the provider's task that a reservation pays for. Again: the same answer.

        Raises:
            ReservationNotFound, TaskConflict, IdempotencyMismatch
        """
        operation.task_shard = await self._task_shard(operation.provider, operation.task)
        return await self._of_reservation(operation)

    async def balance(self, account: str, *, reservations: bool = False) -> Holdings:
        """An account as it is now, by Redis' time.

        Raises:
            AccountNotFound
        """
        shard = shard_of(account, self._count or await self._learn_count())
        operation = Balance(shard=shard, account=account, open=reservations)
        result, reply = await self._batcher.submit(operation)
        if isinstance(result, Applied):
            return Holdings(
                reply.accounts[result.account], [reply.reservations[index] for index in result.open or ()]
            )
        raise await self._refusal(operation, result)

    async def find(self, reservation_id: str) -> Reservation:
        """A reservation as it is now; from the journal when Redis has forgotten it.

        Raises:
            ReservationNotFound
        """
        shard = shard_of_reservation(reservation_id, self._count or await self._learn_count())
        if shard is None:
            raise ReservationNotFound
        result, reply = await self._batcher.submit(Find(shard=shard, reservation=reservation_id))
        if isinstance(result, Applied):
            return reply.reservations[result.reservation]
        if isinstance(result, Declined) and result.word == ReservationNotFound.word:
            return await self._forgotten(reservation_id, shard)
        raise self._error(result)

    async def locate(self, provider: str | None, task: str) -> str:
        """The id of the reservation that a provider's task belongs to; the latest when there were several.

        Raises:
            ReservationNotFound
        """
        shard = await self._task_shard(provider, task)
        result, _ = await self._batcher.submit(Locate(shard=shard, provider=provider, task=task))
        if isinstance(result, Located):
            return result.reservation
        if isinstance(result, Declined) and result.word == ReservationNotFound.word:
            found = await self._asking(self._backing.task(provider, task))
            if found is not None:
                return found
        raise self._error(result)

    async def pass_time(self, shard: int) -> None:
        """Let everything that is due in a shard happen."""
        await self._batcher.submit(Sweep(shard=shard))

    async def _of_account(self, operation: Deduct | Reserve, account: str) -> Receipt:
        operation.shard = shard_of(account, self._count or await self._learn_count())
        result, reply = await self._batcher.submit(operation)
        return await self._receipt(operation, result, reply)

    async def _of_reservation(self, operation: Confirm | Cancel | Bind) -> Receipt:
        shard = shard_of_reservation(operation.reservation, self._count or await self._learn_count())
        if shard is None:
            raise ReservationNotFound
        operation.shard = shard
        result, reply = await self._batcher.submit(operation)
        if type(result) is Declined and result.word == ReservationNotFound.word and not result.facts:
            reservation = await self._forgotten(operation.reservation, shard)
            sequence = settled_outcome(operation, reservation)
            return await self._replayed(shard, sequence, None, reservation)
        return await self._receipt(operation, result, reply)

    async def _receipt(self, operation: Write, result: Applied | Located | Declined, reply: Reply) -> Receipt:
        if not isinstance(result, Applied):
            raise await self._refusal(operation, result)
        reservation = reply.reservations[result.reservation] if result.reservation >= 0 else None
        account = reply.accounts[result.account] if result.account >= 0 else None
        if result.entry is None or account is None:  # Redis has forgotten the entry, or the reservation
            return await self._replayed(operation.shard, result.sequence, account, reservation)
        notes = result.notes if result.replayed else operation.notes
        if not result.replayed:
            self.acknowledged.keep(
                operation.shard, result.sequence, result.entry.incarnation, result.entry.key
            )
        return Receipt(
            operation.shard, result.sequence, result.entry, notes, account, reservation, result.replayed
        )

    async def _replayed(
        self, shard: int, sequence: int, account: Account | None, reservation: Reservation | None
    ) -> Receipt:
        """A replay whose entry has left Redis: the journal has it."""
        recorded: Recorded | None = await self._asking(self._backing.entry(shard, sequence))
        if recorded is None:
            why = f"the journal lacks entry {sequence}, which Redis has forgotten"
            raise LedgerFenced(shard=shard, why=why)
        entry = recorded.entry
        if reservation is None and entry.reservation is not None:
            reservation = await self.find(entry.reservation)
        if account is None:
            account = (await self.balance(entry.account)).account
        return Receipt(shard, sequence, entry, recorded.notes, account, reservation, replayed=True)

    async def _forgotten(self, reservation_id: str, shard: int) -> Reservation:
        """A reservation that Redis does not know, from the journal."""
        reservation = await self._asking(self._backing.reservation(reservation_id))
        if reservation is None:
            raise ReservationNotFound
        if reservation.status == "pending":
            raise LedgerFenced(
                shard=shard, why=f"reservation {reservation_id} is open in the journal and missing in Redis"
            )
        return reservation

    async def _refusal(self, operation: Operation, result: Located | Declined) -> LedgerError:
        if isinstance(result, Declined) and result.word == "account_unknown":
            if "account" in result.facts:  # a reservation's, and Redis has the reservation
                why = f"account {result.facts['account']} has a reservation and is missing in Redis"
                return LedgerFenced(shard=operation.shard, why=why)
            await self._unknown_to_the_journal(getattr(operation, "account", ""), operation.shard)
            return errors.AccountNotFound()
        return self._error(result)

    async def _unknown_to_the_journal(self, account: str, shard: int) -> None:
        """An account that Redis did not know. Somebody may have opened it meanwhile."""
        if await self._asking(self._backing.account_known(account)):
            result, _ = await self._batcher.submit(Balance(shard=shard, account=account))
            if type(result) is Declined and result.word == "account_unknown":
                raise LedgerFenced(
                    shard=shard, why=f"account {account} is in the journal and missing in Redis"
                )

    @staticmethod
    async def _asking(question: Awaitable[T]) -> T:
        """What the journal answers; when it is away that is said, never guessed."""
        try:
            return await question
        except BackingUnavailable as error:
            raise LedgerUnavailable(why=str(error)) from error

    @staticmethod
    def _error(result: Located | Declined | Applied) -> LedgerError:
        assert isinstance(result, Declined), result
        if result.word == ReservationNotFound.word:  # whose it is, is not told
            return ReservationNotFound()
        error = _ERRORS[result.word](**result.facts)
        error.replayed = result.replayed
        return error

    async def _learn_count(self) -> int:
        """How many shards the ledger has: fixed at its birth, known after the first admission."""
        self._count = await self._batcher.shards()
        return self._count

    async def _task_shard(self, provider: str | None, task: str) -> int:
        return shard_of(f"{provider or ''}:{task}", self._count or await self._learn_count())

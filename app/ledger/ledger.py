"""The ledger as the rest of the program sees it: one method per verb, one answer or one error each."""

from collections.abc import Sequence

from msgspec.structs import replace
from redis.asyncio import Redis

from app.ledger import confirming, scripts
from app.ledger.acknowledged import Acknowledged
from app.ledger.asked import Asked, Settling, says
from app.ledger.backing import Backing, Terms
from app.ledger.batcher import Batcher, Limits
from app.ledger.batches import Batches
from app.ledger.errors import NO_SHARD, AccountNotFound, LedgerError, ReservationNotFound
from app.ledger.lasting import is_beyond_memory
from app.ledger.operations import (
    Adjust,
    Bind,
    Cancel,
    Configure,
    Confirm,
    Deduct,
    Extend,
    Grant,
    Refund,
    Reserve,
    Sweep,
    Write,
)
from app.ledger.outcomes import Outcomes
from app.ledger.past import Past
from app.ledger.reading import Reading, returned
from app.ledger.receipts import Batched, Configured, Receipt, receipt_of
from app.ledger.replicas import Replicas
from app.ledger.replies import Applied
from app.ledger.scripts import Script
from app.ledger.shards import shard_of, shard_of_reservation, shard_of_task
from app.ledger.tickets import Answer


class Ledger(Reading):
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
        batcher = Batcher(redis, script or scripts.load("apply"), backing, limits or Limits(), replicas)
        past = Past(backing)
        super().__init__(batcher, past)
        self.tally = batcher.tally
        self.acknowledged = Acknowledged()
        self._batches = Batches(batcher, self._present, Outcomes(past, self._present, self.acknowledged))

    async def start(self) -> None:
        """Begin to carry operations; Redis and PostgreSQL need not be there yet."""
        self._batcher.start()

    async def stop(self) -> None:
        """Finish what is waiting, then end."""
        await self._batcher.stop()

    @property
    def terms(self) -> Terms | None:
        """What this process and its Redis agreed on last; `None` while it may not serve."""
        return self._batcher.serving.terms

    @property
    def waiting(self) -> int:
        """How many operations wait for the call in flight."""
        return self._batcher.waiting

    @property
    def why_not(self) -> str:
        """Why `terms` is `None`, in words."""
        return self._batcher.serving.why_not

    def adopt(self, terms: Terms) -> None:
        """Serve under these terms from the next call on."""
        self._batcher.serving.terms = terms

    def dismiss(self, why_not: str) -> None:
        """Serve nothing before Redis has been admitted again."""
        self._batcher.serving.dismiss(why_not)

    def heed_memory(self, *, is_short: bool) -> None:
        """Take on nothing new while memory is short; what was begun is ended, and reading goes on."""
        self._batcher.memory_is_short = is_short

    async def grant(self, operation: Grant) -> Receipt:
        """Add credits to a bucket; opens the account when neither Redis nor the journal knows it.

        Raises:
            AccountClosed, AlreadyExpired, LimitReached, BalanceOverflow, IdempotencyMismatch
        """
        return await self._of_account(operation)

    async def deduct(self, operation: Deduct) -> Receipt:
        """Spend credits at once.

        Raises:
            AccountNotFound, AccountFrozen, AccountClosed, CreditsHeld, InsufficientCredits,
            IdempotencyMismatch
        """
        return await self._of_account(operation)

    async def reserve(self, operation: Reserve) -> Receipt:
        """Set credits aside until the job is confirmed, cancelled or out of time.

        Raises:
            AccountNotFound, AccountFrozen, AccountClosed, TaskConflict, LimitReached, CreditsHeld,
            InsufficientCredits, IdempotencyMismatch
        """
        if operation.task is not None and not self._batcher.is_cluster:
            count = self._count or await self._learn_count()
            operation.task_shard = shard_of_task(operation.provider, operation.task, count)
        return await self._of_account(operation)

    async def confirm(self, operation: Confirm) -> Receipt:
        """Spend what a reservation holds, or a part of it. Again: the same answer, for ever.

        Raises:
            ReservationNotFound, ReservationCancelled, ReservationExpired, AccountFrozen, AccountClosed,
            ExceedsReservation, LimitReached, CreditsHeld, InsufficientCredits, IdempotencyMismatch
        """
        confirming.started([operation])
        return await self._of_reservation(operation)

    async def cancel(self, operation: Cancel) -> Receipt:
        """Give back what a reservation holds. Again: the same answer, for ever.

        Raises:
            ReservationNotFound, ReservationConfirmed, ReservationExpired, AccountClosed,
            IdempotencyMismatch
        """
        return await self._of_reservation(operation)

    async def extend(self, operation: Extend) -> Receipt:
        """Move the deadline of a reservation that is still open.

        Raises:
            ReservationNotFound, ReservationCancelled, ReservationConfirmed, ReservationExpired,
            AccountFrozen, AccountClosed, InvalidExtension, LimitReached, IdempotencyMismatch
        """
        return await self._of_reservation(operation)

    async def bind(self, operation: Bind) -> Receipt:
        """Name the provider's task that a reservation pays for. Again: the same answer.

        Raises:
            ReservationNotFound, AccountClosed, TaskConflict, IdempotencyMismatch
        """
        if not self._batcher.is_cluster:
            count = self._count or await self._learn_count()
            operation.task_shard = shard_of_task(operation.provider, operation.task, count)
        return await self._of_reservation(operation)

    async def refund(self, operation: Refund) -> Receipt:
        """Give back what was spent; the receipt is that of the first original of which something was left.

        Raises:
            AccountClosed, NotRefundable, ExceedsTransaction, LimitReached, BalanceOverflow,
            IdempotencyMismatch
        """
        return await self._of_account(operation)

    async def adjust(self, operation: Adjust) -> Receipt:
        """Put right what an operator knows better.

        Raises:
            AccountNotFound, AccountClosed, LimitReached, BalanceOverflow, CreditsHeld, InsufficientCredits,
            IdempotencyMismatch
        """
        return await self._of_account(operation)

    async def configure(self, operation: Configure) -> Configured:
        """Change settings of an account; opens one that neither Redis nor the journal knows. Its key holds
        for 24 h.

        Raises:
            AccountClosed, AccountNotEmpty, OverdraftInUse, IdempotencyMismatch
        """
        operation.shard = shard_of(operation.account, self._count or await self._learn_count())
        try:
            configured = await self._configured(operation)
        except LedgerError as error:
            self.tally.count(operation, error)
            raise
        if configured.receipt is not None:
            self.tally.count(operation, configured.receipt)
        return configured

    async def _configured(self, operation: Configure) -> Configured:
        answer = await self._batcher.submit(operation)
        if says(answer, "account_unknown"):
            error = await self._unknown(operation.account, operation.shard)
            if not isinstance(error, AccountNotFound):
                raise error
            operation = replace(operation, open=True)
            answer = await self._batcher.submit(operation)
        result, reply = answer
        if isinstance(result, Applied) and not result.sequence:
            return Configured(reply.accounts[result.account], None)
        receipt = receipt_of(operation, answer, self.acknowledged)
        receipt = receipt or await self._settled(operation, answer)
        return Configured(receipt.account, receipt)

    async def batch(self, operations: Sequence[Write], *, atomic: bool = False) -> Batched:
        """Carry out many operations in their order: each by itself, or (`atomic`) all of them or none.

        Operations of which one depends on another's outcome have no place in one batch: what a refund gives
        back, for one, is looked up before the first of them is carried out. Neither have `Configure`.

        Args:
            operations: At most 1000.
            atomic: They are all on one server and travel in one call.

        Raises:
            Overloaded: Nothing was sent.
            BatchAcrossShards: They are not on one server; nothing was sent.
            LedgerUnavailable, InternalError: Of an atomic batch as a whole.
        """
        count = self._count or await self._learn_count()
        confirming.started(operations)
        try:
            if atomic:
                batched = await self._batches.together(operations, count)
            else:
                batched = Batched(await self._batches.each(operations, count))
        except LedgerError as error:
            for each in operations:
                self._note(each, error)
            raise
        for each, outcome in zip(operations, batched.results, strict=True):
            self._note(each, outcome)
        return batched

    async def recalled(self, operation: Write) -> Receipt | None:
        """What was answered to the key of an operation; `None`: nothing is known of it. It is not carried
        out, so that nothing but key, fingerprint and what they belong to has to be right.

        Raises:
            LedgerError: That was answered; or it is the key of another request (IdempotencyMismatch); or what
                was answered cannot be known now.
        """
        outcome = await self._batches.recalled(operation, self._count or await self._learn_count())
        return None if outcome is None else returned(outcome)

    async def pass_time(self, shard: int) -> None:
        """Let everything that is due in a shard happen."""
        await self._batcher.submit(Sweep(shard=shard))

    async def _of_account(self, operation: Grant | Deduct | Reserve | Refund | Adjust) -> Receipt:
        operation.shard = shard_of(operation.account, self._count or await self._learn_count())
        return await self._carried_out(operation)

    async def _of_reservation(self, operation: Settling) -> Receipt:
        shard = shard_of_reservation(operation.reservation, self._count or await self._learn_count())
        if shard is None:
            error = ReservationNotFound(NO_SHARD)
            self._note(operation, error)
            raise error
        operation.shard = shard
        return await self._carried_out(operation)

    async def _carried_out(self, operation: Write) -> Receipt:
        """Redis mostly knows all that is needed: then nothing else is awaited than its answer. Where the key
        may be older than its memory, the journal is asked first; where a task lives on another server than
        its reservation, that one is.
        """
        try:
            if (operation.key is not None and is_beyond_memory(operation, self.now_ms)) or (
                self._batcher.is_cluster and isinstance(operation, Reserve | Bind)
            ):
                receipt = returned((await self._batches.each([operation], self._count))[0])
            else:
                answer = await self._batcher.submit(operation)
                receipt = receipt_of(operation, answer, self.acknowledged) or await self._settled(
                    operation, answer
                )
        except LedgerError as error:
            self._note(operation, error)
            raise
        self._note(operation, receipt)
        return receipt

    async def _settled(self, operation: Write, answer: Answer) -> Receipt:
        """Redis has refused, or does not know everything."""
        return returned((await self._batches.settle([Asked(operation, answer)], self._count))[0])

    def _note(self, operation: Write, outcome: Receipt | LedgerError) -> None:
        """Count what became of an operation; of a confirm it is told, too."""
        self.tally.count(operation, outcome)
        if type(operation) is Confirm:
            confirming.ended(operation, outcome)

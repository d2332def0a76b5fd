"""The verbs. Each is a ladder of refusals, and then the entry that it makes.

The order of refusals is the documented one: idempotency, existence, state, limits, funds.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from app.ledger.credits import CREDITS_MAX
from app.ledger.entries import Leg
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
    Write,
)
from app.ledger.replies import HeldLeg
from app.ledger.shards import shard_of, shard_of_reservation
from tests.reference.accounts import LOTS_MAX, Account, Hold
from tests.reference.books import Books
from tests.reference.check import check
from tests.reference.outcomes import Applied, Line, No, Outcome, Refused, Seen

DAY_MS = 86_400_000
NOT_REMEMBERED = {"account_not_found", "reservation_not_found", "idempotency_mismatch"}


class Memory(NamedTuple):
    """What an idempotency key stands for: a line of the journal or a refusal, for 24 h."""

    fingerprint: str | None
    at_ms: int
    answer: Line | Refused


class Reference(Books):
    """A ledger of so many shards. Time passes in a shard when an operation concerns it, or when told to."""

    def __init__(self, shards: int = 1) -> None:
        super().__init__(shards)
        self._memory: dict[tuple[str, str, str], Memory] = {}

    def apply(self, operation: Operation, now_ms: int) -> Outcome:
        """Let what is due happen, then answer the operation."""
        times = {shard: self.pass_time(shard, now_ms) for shard in self.concerned(operation)}
        try:
            if isinstance(operation, Write):
                return self._write(operation, times[self.home(operation)])
            return self._read(operation)
        except No as no:
            return no.refused

    def check(self) -> None:
        """Raise `Broken` if I2, I3 or the gap-free versions and sequences do not hold."""
        check(self)

    def home(self, operation: Operation) -> int:
        """The shard of what the operation names: its account, its reservation or its task."""
        match operation:
            case Locate():
                return self.home_of_task(operation.provider, operation.task)
            case Confirm() | Cancel() | Bind() | Find():
                return shard_of_reservation(operation.reservation, self.shards) or 0
            case Grant() | Deduct() | Reserve() | Balance():
                return shard_of(operation.account, self.shards)
        raise AssertionError(operation)

    def home_of_task(self, provider: str | None, task: str) -> int:
        return shard_of(f"{provider or ''}:{task}", self.shards)

    def concerned(self, operation: Operation) -> list[int]:
        """The shards in which an operation lets time pass: its own, and that of the task that it binds."""
        shards = {self.home(operation)}
        if isinstance(operation, Reserve | Bind) and operation.task is not None:
            shards.add(self.home_of_task(operation.provider, operation.task))
        return sorted(shards)

    # The same request, the same answer (I4)

    def _write(self, asked: Write, now_ms: int) -> Outcome:
        """A key that is known replays its answer, refusals included; else the answer is remembered."""
        scope = self._scope(asked)
        memory = self._memory.get(scope)
        if asked.key is not None and memory and now_ms - memory.at_ms < DAY_MS:
            if memory.fingerprint != asked.fingerprint:
                raise No("idempotency_mismatch")
            if isinstance(memory.answer, Refused):
                return memory.answer._replace(replayed=True)
            return self._applied(memory.answer, replayed=True)
        outcome = self._decide(asked, now_ms)
        answer = outcome.line if isinstance(outcome, Applied) else outcome
        if asked.key is not None and not (isinstance(answer, Refused) and answer.word in NOT_REMEMBERED):
            self._memory[scope] = Memory(asked.fingerprint, now_ms, answer)
        return outcome

    @staticmethod
    def _scope(asked: Write) -> tuple[str, str, str]:
        """A key belongs to what the request names: the reservation where one is named, else the account."""
        if isinstance(asked, Confirm | Cancel | Bind):
            return "reservation", asked.reservation, asked.key or ""
        assert isinstance(asked, Grant | Deduct | Reserve)
        return "account", asked.account, asked.key or ""

    def _decide(self, asked: Write, now_ms: int) -> Applied | Refused:
        verbs: dict[type, Callable[[Any, int], Applied]] = {
            Grant: self._grant, Deduct: self._deduct, Reserve: self._reserve,
            Confirm: self._confirm, Cancel: self._cancel, Bind: self._bind,
        }  # fmt: skip
        try:
            return verbs[type(asked)](asked, now_ms)
        except No as no:
            return no.refused

    # The verbs

    def _grant(self, asked: Grant, now_ms: int) -> Applied:
        account = self.accounts.get(asked.account) or Account(asked.account)
        if 0 < asked.expires_at_ms <= now_ms:
            raise No("already_expired", expires_at_ms=asked.expires_at_ms, now_ms=now_ms)
        if account.crowded_by(asked.bucket, asked.expires_at_ms):
            raise No("limit_reached", what="lots", limit=LOTS_MAX)
        if asked.amount > CREDITS_MAX - account.available - account.held:
            raise No("balance_overflow", available=account.available, held=account.held)
        self.accounts[asked.account] = account
        account.make_room(asked.bucket, asked.expires_at_ms, asked.priority)
        legs = [Leg(asked.bucket, asked.expires_at_ms, asked.amount, 0)]
        facts: dict[str, Any] = {"bucket": asked.bucket, "priority": asked.priority}
        return self._applied(self.enter(account, "granted", now_ms, asked.amount, legs, asked, **facts))

    def _deduct(self, asked: Deduct, now_ms: int) -> Applied:
        account = self._account(asked.account)
        self._afford(account, asked.amount)
        legs = [Leg(lot.bucket, lot.expires_at_ms, -part, 0) for lot, part in account.take(asked.amount)]
        line = self.enter(account, "deducted", now_ms, asked.amount, legs, asked, model=asked.model)
        return self._applied(line)

    def _reserve(self, asked: Reserve, now_ms: int) -> Applied:
        account = self._account(asked.account)
        self._free_task(asked, now_ms)
        if len(account.open_holds) >= asked.holds_max:
            raise No("limit_reached", what="holds", limit=asked.holds_max)
        self._afford(account, asked.amount)
        legs = [HeldLeg(lot.bucket, lot.expires_at_ms, part) for lot, part in account.take(asked.amount)]
        hold = Hold(asked, now_ms, legs)
        line = self.open(hold, now_ms, asked)
        if asked.task is not None:
            hold.bound_sequence = line.sequence
            self.tasks[asked.provider, asked.task] = hold.id
        return self._applied(line)

    def _confirm(self, asked: Confirm, now_ms: int) -> Applied:
        hold = self._hold(asked.reservation, asked.account)
        if hold.status == "confirmed":
            return self._applied(self.line(hold, hold.ended_sequence), replayed=True)
        self._not_cancelled(hold)
        amount = hold.held if asked.amount is None else asked.amount
        if amount > hold.held:
            raise No("exceeds_reservation", required=amount, held=hold.held)
        hold.model = asked.model or hold.model
        line = self.end(hold, "confirmed", now_ms, amount, asked, captured=amount, charged=0)
        return self._applied(line)

    def _cancel(self, asked: Cancel, now_ms: int) -> Applied:
        hold = self._hold(asked.reservation, asked.account)
        if hold.status == "confirmed":
            raise No("reservation_confirmed", at_ms=hold.settled_at_ms or 0)
        if hold.status == "cancelled" and hold.cause != "expired":
            return self._applied(self.line(hold, hold.ended_sequence), replayed=True)
        self._not_cancelled(hold)
        hold.cause, hold.reason = asked.cause, asked.reason
        return self._applied(self.end(hold, "cancelled", now_ms, 0, asked, cause=asked.cause))

    def _bind(self, asked: Bind, now_ms: int) -> Applied:
        hold = self._hold(asked.reservation, asked.account)
        wants_resource = asked.resource is not None and asked.resource != hold.resource
        if hold.task is not None:
            if (hold.provider, hold.task) != (asked.provider, asked.task) or (
                wants_resource and hold.resource
            ):
                raise No("task_conflict", reservation=hold.id, task=hold.task)
            if not wants_resource:
                return self._applied(self.line(hold, hold.bound_sequence), replayed=True)
        self._free_task(asked, now_ms)
        hold.task, hold.provider, hold.resource = asked.task, asked.provider, asked.resource or hold.resource
        named = {"reservation": hold.id, "task": hold.task, "provider": hold.provider}
        line = self.enter(self.account_of(hold), "bound", now_ms, 0, [], asked, **named)
        hold.bound_sequence = line.sequence
        self.tasks[asked.provider, asked.task] = hold.id
        return self._applied(line)

    def _read(self, asked: Operation) -> Seen:
        match asked:
            case Balance():
                account = self._account(asked.account)
                soonest = sorted((deadline, id_) for id_, deadline in account.open_holds.items())
                pending = [self.holds[id_].stored() for _, id_ in soonest] if asked.open else []
                return Seen(account.stored(), pending)
            case Find():
                return Seen(None, [self._hold(asked.reservation).stored()])
            case Locate():
                owner = self.tasks.get((asked.provider, asked.task), "")
                return Seen(None, [], self._hold(owner).id)
        raise AssertionError(asked)

    # The rungs that verbs share

    def _account(self, id_: str) -> Account:
        if id_ not in self.accounts:
            raise No("account_not_found")
        return self.accounts[id_]

    def _hold(self, id_: str, of_account: str | None = None) -> Hold:
        """A reservation; somebody else's is not found."""
        hold = self.holds.get(id_)
        if hold is None or of_account not in {None, hold.account}:
            raise No("reservation_not_found")
        return hold

    @staticmethod
    def _not_cancelled(hold: Hold) -> None:
        if hold.cause == "expired":
            raise No("reservation_expired", at_ms=hold.settled_at_ms or 0)
        if hold.cause is not None:
            raise No("reservation_cancelled", cause=hold.cause, at_ms=hold.settled_at_ms or 0)

    def _free_task(self, asked: Reserve | Bind, now_ms: int) -> None:
        """A task belongs to one reservation, until 24 h after the deadline of that or its late binding."""
        if asked.task is None or (asked.provider, asked.task) not in self.tasks:
            return
        owner = self.holds[self.tasks[asked.provider, asked.task]]
        bound_at_ms = self.line(owner, owner.bound_sequence).entry.at_ms
        if owner.id != asked.reservation and now_ms < max(owner.deadline_ms, bound_at_ms) + DAY_MS:
            facts = {"reservation": owner.id} | ({"task": asked.task} if isinstance(asked, Bind) else {})
            raise No("task_conflict", **facts)

    @staticmethod
    def _afford(account: Account, amount: int) -> None:
        available, held = account.available, account.held
        if amount <= available:
            return
        facts: dict[str, int | str] = {"required": amount, "available": available, "held": held}
        if amount - available > held:
            raise No("insufficient_credits", **facts)
        facts |= {"open_reservations": len(account.open_holds)}
        raise No("credits_held", **facts, next_release_at_ms=min(account.open_holds.values()))

    def _applied(self, line: Line, *, replayed: bool = False) -> Applied:
        """Answer with a line of the journal and the present state of what it is about."""
        account, hold = self.accounts[line.entry.account], self.holds.get(line.entry.reservation or "")
        return Applied(line, account.stored(), hold.stored() if hold else None, replayed)

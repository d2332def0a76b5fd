"""The ledger: which verb answers, what a repeated request gets, and what all or nothing means."""

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from app.ledger.operations import (
    Adjust,
    Balance,
    Bind,
    Cancel,
    Configure,
    Confirm,
    Deduct,
    Extend,
    Find,
    Grant,
    Locate,
    Operation,
    Refund,
    Reserve,
    Trace,
    Write,
)
from app.ledger.shards import shard_of_reservation
from tests.reference.books import DAY_MS, Books
from tests.reference.check import check
from tests.reference.crediting import adjust, configure, grant
from tests.reference.outcomes import Again, Applied, Line, No, Outcome, Refused, Seen
from tests.reference.refunds import refund
from tests.reference.rungs import account_of, hold_of
from tests.reference.settling import cancel, confirm, extend
from tests.reference.spending import bind, deduct, reserve

NOT_REMEMBERED = {"account_not_found", "reservation_not_found", "idempotency_mismatch"}

UUID7 = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}(#\d+)?", re.IGNORECASE
)

Verb = Callable[[Books, Any, int], Line | None]

VERBS: dict[type[Operation], Verb] = {
    Grant: grant, Deduct: deduct, Reserve: reserve, Confirm: confirm, Cancel: cancel, Extend: extend,
    Refund: refund, Adjust: adjust, Configure: configure, Bind: bind,
}  # fmt: skip


class Memory(NamedTuple):
    """What an idempotency key stands for: a line of the journal or a refusal."""

    fingerprint: str | None
    at_ms: int
    answer: Line | Refused


def _holds_for_ever(asked: Write) -> bool:
    """Whether its key does: all that bring credits, and those that are made never to come back."""
    if asked.key is None:
        return False
    return isinstance(asked, Grant | Refund | Adjust) or UUID7.fullmatch(asked.key) is not None


class Reference(Books):
    """A ledger of so many shards. Time passes in a shard when an operation concerns it, or when told to."""

    def __init__(self, shards: int = 1, remembers_ms: int = DAY_MS) -> None:
        super().__init__(shards, remembers_ms)
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

    def apply_all(self, operations: Sequence[Write], now_ms: int) -> tuple[list[Outcome], int | None]:
        """All or nothing: what each is answered, and which one failed, if one did.

        Keys that hold for ever are looked at before anything else. Of one that failed its refusal is
        remembered, and nothing else is written, not even what time did.
        """
        for failed, operation in enumerate(operations):
            memory = self._memory.get(self._scope(operation)) if _holds_for_ever(operation) else None
            if memory and isinstance(memory.answer, Line) and memory.fingerprint != operation.fingerprint:
                return self._failed(operations, failed, Refused("idempotency_mismatch", {})), failed
        put_back, kept = self.keep(), dict(self._memory)
        for shard in sorted({shard for each in operations for shard in self.concerned(each)}):
            self.pass_time(shard, now_ms)
        outcomes: list[Outcome] = []
        for failed, operation in enumerate(operations):
            outcome = self.apply(operation, now_ms)
            if isinstance(outcome, Refused):
                put_back()
                self._memory = kept
                if not outcome.replayed:
                    self._remember(operation, now_ms, outcome)
                return self._failed(operations, failed, outcome), failed
            outcomes.append(outcome)
        return outcomes, None

    @staticmethod
    def _failed(operations: Sequence[Write], failed: int, why: Refused) -> list[Outcome]:
        return [why if i == failed else Refused("batch_failed", {}) for i in range(len(operations))]

    def check(self) -> None:
        """Raise `Broken` if I2, I3 or the gap-free versions and sequences do not hold."""
        check(self)

    def home(self, operation: Operation) -> int:
        """The shard of what the operation names: its account, its reservation or its task."""
        match operation:
            case Locate():
                return self.home_of_task(operation.provider, operation.task)
            case Confirm() | Cancel() | Extend() | Bind() | Find():
                return shard_of_reservation(operation.reservation, self.shards) or 0
            case Trace():
                return operation.shard
        account = getattr(operation, "account", None)
        assert isinstance(account, str), operation
        return self.shard(account)

    def home_of_task(self, provider: str | None, task: str) -> int:
        return self.shard(f"{provider or ''}:{task}")

    def concerned(self, operation: Operation) -> list[int]:
        """The shards in which an operation lets time pass: its own, and that of the task that it binds or
        whose deadline it moves.
        """
        shards = {self.home(operation)}
        named: Any = self.holds.get(operation.reservation) if isinstance(operation, Extend) else operation
        if isinstance(operation, Reserve | Bind | Extend) and named and named.task is not None:
            shards.add(self.home_of_task(named.provider, named.task))
        return sorted(shards)

    # The same request, the same answer (I4)

    def _write(self, asked: Write, now_ms: int) -> Applied | Refused:
        """A key that is known replays its answer, refusals included; else the answer is remembered."""
        memory = self._recall(asked, now_ms)
        if memory and memory.fingerprint != asked.fingerprint:
            raise No("idempotency_mismatch")
        if memory and isinstance(memory.answer, Refused):
            return memory.answer._replace(replayed=True)
        if memory and isinstance(memory.answer, Line):
            return self.applied(memory.answer, replayed=True)
        try:
            line = VERBS[type(asked)](self, asked, now_ms)
        except Again as again:
            self._remember(asked, now_ms, again.line)
            return self.applied(again.line, replayed=True)
        except No as no:
            self._remember(asked, now_ms, no.refused)
            return no.refused
        if line is None:
            assert isinstance(asked, Configure)
            return Applied(None, self.accounts[asked.account].stored(), None)
        self._remember(asked, now_ms, line)
        return self.applied(line)

    def _recall(self, asked: Write, now_ms: int) -> Memory | None:
        """What was answered to this key: for 24 h anything; for ever what was done under a key that is made
        never to come back, or was to bring credits, or captured a part.
        """
        memory = self._memory.get(self._scope(asked)) if asked.key is not None else None
        if memory and now_ms - memory.at_ms < self.remembers_ms:
            return memory
        if memory and _holds_for_ever(asked) and isinstance(memory.answer, Line):
            return memory
        return self._recall_part(asked, now_ms) if isinstance(asked, Confirm) else None

    def _recall_part(self, asked: Confirm, now_ms: int) -> Memory | None:
        hold = self.holds.get(asked.reservation)
        for part in hold.parts if hold else ():
            if hold and part.key == asked.key:
                return Memory(part.fingerprint, now_ms, self.line(hold, part.sequence))
        return None

    def _remember(self, asked: Write, now_ms: int, answer: Line | Refused) -> None:
        if asked.key is None or (isinstance(answer, Refused) and answer.word in NOT_REMEMBERED):
            return
        self._memory[self._scope(asked)] = Memory(asked.fingerprint, now_ms, answer)

    @staticmethod
    def _scope(asked: Write) -> tuple[str, str, str]:
        """A key belongs to what the request names: the reservation where one is named, else the account."""
        if isinstance(asked, Confirm | Cancel | Extend | Bind):
            return "reservation", asked.reservation, asked.key or ""
        account = getattr(asked, "account", None)
        assert isinstance(account, str), asked
        return "account", account, asked.key or ""

    def applied(self, line: Line, *, replayed: bool = False) -> Applied:
        """Answer with a line of the journal and the present state of what it is about. A refund is not about
        the reservation that spent what comes back.
        """
        account, hold = self.accounts[line.entry.account], self.holds.get(line.entry.reservation or "")
        hold = None if line.entry.kind == "refunded" else hold
        return Applied(line, account.stored(), hold.stored() if hold else None, replayed)

    # Reading

    def _read(self, asked: Operation) -> Seen:
        match asked:
            case Balance():
                account = account_of(self, asked.account)
                soonest = sorted((deadline, id_) for id_, deadline in account.open_holds.items())
                pending = [self.holds[id_].stored() for _, id_ in soonest] if asked.open else []
                return Seen(account.stored(), pending)
            case Find():
                return Seen(None, [hold_of(self, asked.reservation).stored()])
            case Locate():
                owner = self.tasks.get((asked.provider, asked.task), "")
                return Seen(None, [], hold_of(self, owner).id)
            case Trace():
                lines = self.journal[asked.shard]
                if not 1 <= asked.sequence <= len(lines):
                    raise No("transaction_not_found")
                return Seen(None, [], line=lines[asked.sequence - 1])
        raise AssertionError(asked)

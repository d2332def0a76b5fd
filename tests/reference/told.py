"""A reference, a clock, and short words for the operations of one account."""

from typing import Any

from app.ledger.entries import Leg
from app.ledger.operations import Balance, Configure, Confirm, Deduct, Find, Grant, Operation, Reserve, Write
from app.ledger.replies import Account, Reservation
from app.ledger.shards import new_reservation_id
from tests.reference.ledger import Reference
from tests.reference.outcomes import Applied, Line, Outcome, Refused, Seen

NOW = 1_800_000_000_000


class Told:
    """After everything that it is told the reference is checked."""

    def __init__(self) -> None:
        self.ledger = Reference()
        self.now_ms = NOW

    def __call__(self, operation: Operation) -> Outcome:
        outcome = self.ledger.apply(operation, self.now_ms)
        self.ledger.check()
        return outcome

    def together(self, *operations: Write) -> tuple[list[str], int | None]:
        """An atomic group: `ok` or the word of the refusal for each, and which one failed."""
        outcomes, failed = self.ledger.apply_all(operations, self.now_ms)
        self.ledger.check()
        return [each.word if isinstance(each, Refused) else "ok" for each in outcomes], failed

    def applied(self, operation: Operation) -> Applied:
        outcome = self(operation)
        assert isinstance(outcome, Applied), outcome
        return outcome

    def line(self, operation: Operation) -> Line:
        line = self.applied(operation).line
        assert line
        return line

    def legs(self, operation: Operation) -> list[Leg]:
        return self.line(operation).entry.legs

    def refused(self, operation: Operation) -> Refused:
        outcome = self(operation)
        assert isinstance(outcome, Refused), outcome
        return outcome

    def word(self, operation: Operation) -> str:
        return self.refused(operation).word

    def grant(self, amount: int, account: str = "ada", **more: Any) -> Applied:
        return self.applied(Grant(account=account, amount=amount, **more))

    def deduct(self, amount: int, account: str = "ada") -> Line:
        return self.line(Deduct(account=account, amount=amount))

    def reserve(self, amount: int, account: str = "ada", **more: Any) -> str:
        id_ = new_reservation_id(0, self.now_ms)
        self.applied(Reserve(account=account, reservation=id_, amount=amount, **more))
        return id_

    def part(self, id_: str, amount: int, key: str = "part", **more: Any) -> Line:
        asked = Confirm(reservation=id_, amount=amount, final=False, key=key, fingerprint="f", **more)
        return self.line(asked)

    def configure(self, account: str = "ada", **settings: Any) -> Applied:
        return self.applied(Configure(account=account, **settings))

    def find(self, id_: str) -> Reservation:
        seen = self(Find(reservation=id_))
        assert isinstance(seen, Seen)
        return seen.reservations[0]

    def account(self, account: str = "ada") -> Account:
        seen = self(Balance(account=account))
        assert isinstance(seen, Seen)
        assert seen.account
        return seen.account

    def balance(self, account: str = "ada") -> tuple[int, int]:
        shown = self.account(account)
        return shown.available, shown.held

    @property
    def kinds(self) -> list[str]:
        return [line.entry.kind for line in self.ledger.journal[0]]

"""An operation, and how far it has come on its way to an outcome."""

from msgspec import Struct

from app.ledger.backing import Recorded
from app.ledger.entries import Entry
from app.ledger.errors import KEY, BatchFailed, JournalBacklogged, LedgerError, ReservationNotFound
from app.ledger.operations import Bind, Cancel, Confirm, Extend, Refund, Write
from app.ledger.past import Place
from app.ledger.receipts import Receipt
from app.ledger.replies import Account, Declined, Reservation
from app.ledger.tickets import Answer

Settling = Confirm | Cancel | Extend | Bind
"""Operations that name a reservation."""

Outcome = Receipt | LedgerError
"""What the caller is told."""


class Asked(Struct, eq=False, gc=False):
    """`answer` is the script's, or why there is none. `sequence` names the entry that answers the operation,
    where that was written before (0: nothing is known of one); `recorded` is that entry. `account` and
    `reservation` are as they are now, as far as that is known. `away`: why the journal could not be asked for
    the key.
    """

    operation: Write
    answer: Answer | LedgerError | None = None
    outcome: Outcome | None = None
    sequence: int = 0
    recorded: Recorded | None = None
    account: Account | None = None
    reservation: Reservation | None = None
    away: LedgerError | None = None

    def is_open(self) -> bool:
        """Whether it has to be sent: nothing that was written before answers it."""
        return self.outcome is None and not self.sequence

    def is_forgotten(self) -> bool:
        """Whether it names a reservation that Redis does not know; another account's it would know."""
        return says(self.answer, ReservationNotFound.word) and not self.facts

    def is_unknown(self) -> bool:
        """Whether it was not carried out because nothing of its key is remembered, and what the journal knows
        of it does not reach as far.
        """
        return says(self.answer, JournalBacklogged.word) and self.facts.get("cause") == KEY

    def is_of_another(self) -> bool:
        """Whether the entry that answers it is of another reservation than it names."""
        operation = self.operation
        return (
            self.recorded is not None
            and isinstance(operation, Settling)
            and self.entry.reservation != operation.reservation
        )

    def has_failed(self) -> bool:
        """Whether an atomic call failed of it: the others only say that one has."""
        answer = self.answer
        if type(answer) is tuple:
            return type(answer[0]) is Declined and answer[0].word != BatchFailed.word
        return not isinstance(answer, BatchFailed)

    @property
    def account_named(self) -> str:
        """The account that the operation names."""
        return self.operation.account or ""  # type: ignore[attr-defined]

    @property
    def place(self) -> Place:
        return self.operation.shard, self.sequence

    @property
    def facts(self) -> dict[str, int | str]:
        """Of its refusal."""
        answer = self.answer
        return answer[0].facts if isinstance(answer, tuple) and isinstance(answer[0], Declined) else {}

    @property
    def settling(self) -> Settling:
        """The operation, of which it is known that it names a reservation."""
        assert isinstance(self.operation, Settling), self.operation
        return self.operation

    @property
    def entry(self) -> Entry:
        """The entry that answers it, which has been found."""
        assert self.recorded is not None, "no entry"
        return self.recorded.entry

    @property
    def shows(self) -> str | None:
        """The reservation that is shown with the answer."""
        return None if isinstance(self.operation, Refund) else self.entry.reservation


def says(answer: Answer | LedgerError | None, word: str) -> bool:
    """Whether that is the reply word of an answer."""
    return type(answer) is tuple and type(answer[0]) is Declined and answer[0].word == word

"""What the shop reads of the ledger's answers; the rest of them it does not look at."""

from msgspec import Struct


class _Answer(Struct, rename="camel", gc=False):
    pass


class Leg(_Answer):
    """How one lot was moved: signed credits."""

    available: int
    held: int


class Transaction(_Answer):
    """One line of the journal."""

    id: str
    kind: str
    amount: int
    at: str
    version: int
    legs: list[Leg]
    reservation_id: str | None = None


class Balance(_Answer):
    """What an account has as of one of its versions."""

    version: int
    available: int
    held: int


class Reservation(_Answer):
    """How a hold stands."""

    id: str
    status: str
    cancel_cause: str | None = None


class Receipt(_Answer):
    """What a verb answers; a `reservation` where there is one."""

    transaction: Transaction
    balance: Balance
    reservation: Reservation | None = None


class Page(_Answer):
    """Newest first. `version`: the last journaled one of the account; none before its first."""

    data: list[Transaction]
    next_cursor: str | None
    version: int = 0


class Refused(_Answer):
    """The ledger said no, and `code` why."""

    status: int
    code: str

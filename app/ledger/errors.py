"""What can go wrong, as the caller sees it. HTTP has its own table of these in `app.http.problems`.

LedgerError
├── Refused                       the ledger is healthy and said no; nothing moved
│   ├── InsufficientCredits       required, available, held
│   ├── CreditsHeld               required, available, held, open_reservations, next_release_at_ms
│   ├── AccountNotFound
│   ├── ReservationNotFound
│   ├── ReservationCancelled      cause, at_ms
│   ├── ReservationConfirmed      at_ms
│   ├── ReservationExpired        at_ms
│   ├── AccountFrozen
│   ├── AccountClosed
│   ├── AccountNotEmpty           available, held
│   ├── OverdraftInUse            debt
│   ├── TaskConflict              reservation or task: who has it already
│   ├── TransactionNotFound
│   ├── IdempotencyMismatch
│   ├── AlreadyExpired            expires_at_ms, now_ms
│   ├── ExceedsReservation        required, held
│   ├── InvalidExtension          expires_at_ms, latest_ms: what it would have become
│   ├── NotRefundable             kind or status: of the transaction, or of the reservation
│   ├── ExceedsTransaction        required, refunded, left
│   ├── BalanceOverflow           available, held
│   ├── LimitReached              what, limit
│   ├── BatchFailed
│   └── BatchAcrossShards
├── Unavailable                   the ledger cannot answer now; repeating with the same key is safe
│   ├── LedgerUnavailable         cause, where it is known: Redis, or what only PostgreSQL knows, is away
│   ├── LedgerFenced              shard or account, why
│   ├── JournalBacklogged         shard, cause: the journal is too far behind
│   └── Overloaded                cause: the waiting queue, or the memory of Redis, is full
└── InternalError                 a bug; nothing was written

The `word` of a class is the reply word of the script and the `code` of the API.
"""

from typing import ClassVar

FULL, NOT_PERSISTING, READ_ONLY = "full", "not_persisting", "read_only"
TOO_FEW_REPLICAS, NOT_REPLICATED = "too_few_replicas", "not_replicated"
JOURNAL, KEY = "journal", "key"
"""Causes of `LedgerUnavailable`. Nothing was done, but for `NOT_REPLICATED`. With the last two PostgreSQL is
away: what is named, or whether the key was used before, stands only in the journal. `KEY` is a cause of
`JournalBacklogged`, too: when it was asked for the key, the journal had not enough yet.
"""

QUEUE, MEMORY = "queue", "memory"
"""Causes of `Overloaded`."""


class LedgerError(Exception):
    """`facts` are what the answer says about it: integers in credits or milliseconds, and short words."""

    word: ClassVar[str]

    def __init__(self, **facts: int | str) -> None:
        super().__init__(self.word, facts)
        self.facts = facts
        self.replayed = False


class Refused(LedgerError):
    """The ledger is healthy and said no; nothing moved."""


class Unavailable(LedgerError):
    """The ledger cannot answer now; repeating with the same key is safe."""


class InsufficientCredits(Refused):
    """Not enough credits, whatever happens to what is held."""

    word = "insufficient_credits"


class CreditsHeld(Refused):
    """Enough credits, but open reservations hold them."""

    word = "credits_held"


class AccountNotFound(Refused):
    """Neither Redis nor the journal knows the account."""

    word = "account_not_found"


EVERYWHERE = "Redis, then the journal"
ANOTHERS = "Redis or the journal, where it is another account's"
NO_SHARD = "nowhere: its id names no shard of this ledger"


class ReservationNotFound(Refused):
    """No such reservation, no reservation of such a task, or not this account's.

    `looked`: where it was looked for. For the log alone: whose it is, is not told to who asks.
    """

    word = "reservation_not_found"

    def __init__(self, looked: str = EVERYWHERE) -> None:
        super().__init__()
        self.looked = looked


class ReservationCancelled(Refused):
    """The reservation has ended as cancelled."""

    word = "reservation_cancelled"


class ReservationConfirmed(Refused):
    """The reservation has ended as confirmed."""

    word = "reservation_confirmed"


class ReservationExpired(Refused):
    """The reservation ran out of time and its credits went back."""

    word = "reservation_expired"


class AccountFrozen(Refused):
    """The account takes no charge until it is active again."""

    word = "account_frozen"


class AccountClosed(Refused):
    """The account takes nothing until it is active again."""

    word = "account_closed"


class AccountNotEmpty(Refused):
    """Only an account without credits, holds and debt can be closed."""

    word = "account_not_empty"


class OverdraftInUse(Refused):
    """The limit would be below the debt that there is."""

    word = "overdraft_in_use"


class TaskConflict(Refused):
    """The task belongs to another reservation, or the reservation to another task."""

    word = "task_conflict"


class TransactionNotFound(Refused):
    """The journal has no such entry."""

    word = "transaction_not_found"


class IdempotencyMismatch(Refused):
    """The key has been used for another request."""

    word = "idempotency_mismatch"


class AlreadyExpired(Refused):
    """The expiry named is not in the future by Redis' clock."""

    word = "already_expired"


class ExceedsReservation(Refused):
    """More was to be confirmed than is held."""

    word = "exceeds_reservation"


class InvalidExtension(Refused):
    """The deadline would be earlier than it is."""

    word = "invalid_extension"


class NotRefundable(Refused):
    """Nothing was spent by it."""

    word = "not_refundable"


class ExceedsTransaction(Refused):
    """More was to be given back than is left of what was spent."""

    word = "exceeds_transaction"


class BalanceOverflow(Refused):
    """The balance would pass 2^53 - 1."""

    word = "balance_overflow"


class LimitReached(Refused):
    """A bound of the account or the reservation: lots, open holds, extensions, parts."""

    word = "limit_reached"


class BatchFailed(Refused):
    """Another operation of an atomic batch was refused, so this one was not carried out."""

    word = "batch_failed"


class BatchAcrossShards(Refused):
    """All or nothing is possible on one server only."""

    word = "batch_across_shards"


class LedgerUnavailable(Unavailable):
    """No answer from Redis, or from PostgreSQL where only it knows."""

    word = "ledger_unavailable"


class LedgerFenced(Unavailable):
    """A shard or an account that refuses rather than serve a lie."""

    word = "ledger_fenced"


class JournalBacklogged(Unavailable):
    """Too much has not reached PostgreSQL yet."""

    word = "journal_backlogged"


class Overloaded(Unavailable):
    """The waiting queue is full, or the memory of Redis soon is."""

    word = "overloaded"


class InternalError(LedgerError):
    """A bug. Nothing was written."""

    word = "internal_error"


def leaves(of: type[LedgerError] = LedgerError) -> dict[str, type[LedgerError]]:
    """Every error by its word."""
    found: dict[str, type[LedgerError]] = {}
    for each in of.__subclasses__():
        found |= leaves(each) or {each.word: each}
    return found

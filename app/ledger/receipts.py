"""What an operation came to, as the rest of the program sees it."""

import base64
import hashlib

import msgspec
from msgspec import Struct

from app.ledger import errors
from app.ledger.acknowledged import Acknowledged
from app.ledger.entries import Entry
from app.ledger.errors import ANOTHERS, EVERYWHERE, LedgerError, ReservationNotFound
from app.ledger.operations import Write
from app.ledger.replies import Account, Applied, Declined, Reservation
from app.ledger.shards import TransactionId
from app.ledger.tickets import Answer, Result

_ERRORS = errors.leaves()
_canonical = msgspec.json.Encoder(order="sorted").encode


def fingerprint(verb: str, body: Struct) -> str:
    """What a key is compared by: the verb and the request's canonical JSON, as 16 URL-safe characters.

    The struct should omit its defaults, so that one named and one left out are the same request.
    """
    digest = hashlib.blake2b(verb.encode() + b" " + _canonical(body), digest_size=12).digest()
    return base64.urlsafe_b64encode(digest).decode()


class Receipt(Struct, frozen=True, gc=False):
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


class Configured(Struct, frozen=True):
    """An account with its settings. `receipt` is `None` where nothing had to be changed."""

    account: Account
    receipt: Receipt | None


class Batched(Struct, frozen=True):
    """What became of each operation of a batch, in order. `failed`: which one an atomic batch failed of."""

    results: list[Receipt | LedgerError]
    failed: int | None = None


def receipt_of(operation: Write, answer: Answer, acknowledged: Acknowledged) -> Receipt | None:
    """The receipt of an operation that was applied now, or of which Redis still has everything.

    `None`: it was refused, or the journal has to be asked.
    """
    result, reply = answer
    if type(result) is not Applied:
        return None
    entry = result.entry
    if entry is None or result.account < 0:
        return None
    if result.replayed:
        notes = result.notes
    else:
        notes = operation.notes
        acknowledged.keep(operation.shard, result.sequence, entry.incarnation, entry.key)
    return Receipt(
        operation.shard,
        result.sequence,
        entry,
        notes,
        reply.accounts[result.account],
        reply.reservations[result.reservation] if result.reservation >= 0 else None,
        result.replayed,
    )


def error_of(result: Result) -> LedgerError:
    """The refusal as an error."""
    assert isinstance(result, Declined), result
    if result.word == ReservationNotFound.word:
        return ReservationNotFound(ANOTHERS if result.facts else EVERYWHERE)
    error = _ERRORS[result.word](**result.facts)
    error.replayed = result.replayed
    return error

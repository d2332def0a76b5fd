"""The answers of the engine and of the reference in the same form, to be compared."""

from typing import Any

import msgspec

from app.ledger.entries import Entry
from app.ledger.errors import LedgerError
from app.ledger.operations import Balance, Find, Operation
from app.ledger.receipts import Configured, Holdings, Receipt
from app.ledger.replies import Account, Reservation
from app.ledger.shards import shard_of
from tests.reference import Applied, Outcome, Refused, Seen


def in_words(asked: Operation, outcome: Outcome) -> str:
    """One short line of a failing example."""
    answer = type(outcome).__name__
    if isinstance(outcome, Applied):
        answer = outcome.line.entry.kind if outcome.line else "as it should be"
    if isinstance(outcome, Refused):
        answer = outcome.word
    key = getattr(asked, "key", None)
    return f"{type(asked).__name__}{f' with key {key[:10]}' if key else ''}: {answer}"


def bare(entry: Entry) -> Entry:
    """Without what the reference does not know: which call wrote it, under which terms."""
    return msgspec.structs.replace(entry, nonce="", previous_nonce=None, incarnation=0)


def shown_by_engine(answer: Any) -> Any:
    """An answer of the engine in comparable form."""
    if isinstance(answer, LedgerError):
        return answer.word, answer.facts, answer.replayed
    if isinstance(answer, Configured):
        answer = answer.receipt or answer.account
    if isinstance(answer, Receipt):
        return (
            answer.shard, answer.sequence, bare(answer.entry), answer.notes,
            answer.account, answer.reservation, answer.replayed,
        )  # fmt: skip
    if isinstance(answer, Holdings):
        return answer.account, [each.id for each in answer.reservations]
    assert isinstance(answer, Account | Reservation | str), answer
    return answer


def shown_by_reference(asked: Operation, outcome: Outcome, shards: int) -> Any:
    """An outcome of the reference in the same form."""
    if isinstance(outcome, Refused):
        return tuple(outcome)
    if isinstance(outcome, Applied):
        line = outcome.line
        if line is None:
            return outcome.account
        shard = shard_of(line.entry.account, shards)
        return shard, *line, outcome.account, outcome.reservation, outcome.replayed
    assert isinstance(outcome, Seen)
    if isinstance(asked, Find):
        return outcome.reservations[0]
    if isinstance(asked, Balance):
        return outcome.account, [each.id for each in outcome.reservations]
    return outcome.located

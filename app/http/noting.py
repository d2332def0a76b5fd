"""What callers ask in vain, or against what they asked before, is counted for health and alerts."""

from typing import Any

from app.http.parts import Parts
from app.http.settling import CancelBody, ConfirmBody, Settling
from app.ledger.errors import LedgerError
from app.ledger.receipts import Receipt


def missed(parts: Parts, asked: Any, error: LedgerError) -> None:
    """Somebody wanted to end a reservation that is not there."""
    if error.word == "reservation_not_found" and isinstance(asked, ConfirmBody | CancelBody):
        parts.mishaps.note("reservation_not_found", f"{asked.verb} of {_named(asked)}")


def contradicted(parts: Parts, receipt: Receipt) -> None:
    """A confirm named another amount than the one that it repeats."""
    entry = receipt.entry
    about = f"reservation {entry.reservation} of {entry.account}, {entry.amount} the first time"
    parts.mishaps.note("confirm_conflict", about)


def _named(asked: Settling) -> str:
    named = asked.named
    if isinstance(named, str):
        return f"reservation {named}"
    provider, task = named
    return f"task {task}" + (f" of {provider}" if provider else "")

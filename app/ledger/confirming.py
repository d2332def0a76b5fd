"""What a confirm looked for, where, and what it found: for the log, whoever asked for it.

A frontend and a webhook confirm the same reservation, a clean-up may have been there before, a task id is
taken for a reservation's: `confirm.started`, `confirm.found`, `confirm.not_found` and `confirm.refused` are
what is needed to tell these apart. The first two come with every confirm, so they are for the level `debug`;
of the others a flood is cut short.
"""

import logging
from collections.abc import Iterable
from datetime import UTC, datetime

from app.ledger.errors import LedgerError, Refused, ReservationNotFound
from app.ledger.operations import Confirm, Operation
from app.ledger.receipts import Receipt
from app.sparing import Sparing

LINES_PER_SECOND = 20

log = logging.getLogger("lastro.confirm")
_sparing = Sparing(LINES_PER_SECOND)


def started(operations: Iterable[Operation]) -> None:
    """Those of them that are confirms are about to be asked."""
    if log.isEnabledFor(logging.DEBUG):
        for each in operations:
            if type(each) is Confirm:
                log.debug("confirm.started", extra=_of(each) | {"amount": each.amount, "final": each.final})


def ended(confirm: Confirm, outcome: Receipt | LedgerError) -> None:
    """What became of it. That nobody can tell now is no outcome."""
    if isinstance(outcome, Receipt):
        if log.isEnabledFor(logging.DEBUG):
            log.debug("confirm.found", extra=_of(confirm) | _found(outcome))
    elif isinstance(outcome, ReservationNotFound):
        not_found({"reservation": confirm.reservation}, outcome, confirm.by)
    elif isinstance(outcome, Refused) and _sparing.lets_through():
        how = {"code": outcome.word, **dict(map(_shown, outcome.facts.items())), **_kept_back()}
        log.info("confirm.refused", extra=_of(confirm) | how)


def not_found(looked_for: dict[str, str | None], error: ReservationNotFound, by: str) -> None:
    """Nothing has that name. `looked_for`: `reservation`, or `task` and `provider`."""
    if _sparing.lets_through():
        named = {name: value for name, value in looked_for.items() if value is not None}
        log.warning(
            "confirm.not_found",
            extra={"looked_for": named, "looked_in": error.looked, "by": by, **_kept_back()},
        )


def _of(confirm: Confirm) -> dict[str, object]:
    return {"reservation": confirm.reservation, "by": confirm.by}


def _found(receipt: Receipt) -> dict[str, object]:
    return {
        "account": receipt.entry.account,
        "transaction": str(receipt.transaction),
        "credits": receipt.entry.amount,
        "replayed": receipt.replayed,
        "late": receipt.entry.late,
    }


def _shown(fact: tuple[str, int | str]) -> tuple[str, int | str]:
    """A fact of a refusal; a moment as people read it."""
    name, value = fact
    if name.endswith("_ms") and isinstance(value, int):
        return name.removesuffix("_ms"), datetime.fromtimestamp(value / 1000, UTC).isoformat(
            timespec="milliseconds"
        )
    return name, value


def _kept_back() -> dict[str, int]:
    count = _sparing.since_last()
    return {"kept_back": count} if count else {}

"""What may be answered, as far as one answer and its request show it. The rest is for `audit`."""

from tests.chaos.storm.records import Applied, Definite, Record, Refused

KIND = {
    "grant": "granted",
    "deduct": "deducted",
    "reserve": "reserved",
    "confirm": "confirmed",
    "cancel": "cancelled",
}

_FUNDS = frozenset({"insufficient_credits", "credits_held"})
_REFUSALS: dict[str, frozenset[str]] = {
    "grant": frozenset(),
    "deduct": _FUNDS,
    "reserve": _FUNDS,
    "confirm": frozenset({"reservation_cancelled", "reservation_expired"}),
    "cancel": frozenset({"reservation_confirmed", "reservation_expired"}),
}
_STATUS = {
    "insufficient_credits": 402,
    "credits_held": 402,
    "reservation_cancelled": 409,
    "reservation_confirmed": 409,
    "reservation_expired": 410,
}


def fits(record: Record, outcome: Definite, before: Definite | None) -> str:
    """Why this may not be answered to that; empty when it may.

    Args:
        record: What was asked.
        outcome: What was answered.
        before: What was answered to the same key already, if anything was.
    """
    if isinstance(outcome, Refused):
        return _refusal(record, outcome, before)
    if isinstance(before, Refused):
        return f"refused before ({before.code}), and now applied"
    if isinstance(before, Applied) and before.transaction != outcome.transaction:
        return f"another transaction than before ({before.transaction.id})"
    return _receipt(record, outcome) or _hold(record, outcome)


def _refusal(record: Record, refused: Refused, before: Definite | None) -> str:
    if isinstance(before, Applied):
        return "applied before, and now refused"
    if before is not None and before != refused:
        return f"another refusal than before: {before}"
    if refused.code not in _REFUSALS[record.verb] or _STATUS[refused.code] != refused.status:
        return f"{record.verb} may not be refused with {refused.status} {refused.code}"
    if refused.code not in _FUNDS:
        return ""
    if refused.required != record.amount or refused.available is None or refused.held is None:
        return "a refusal of funds without its numbers"
    if refused.available >= record.amount:
        return "refused although there was enough"
    held = refused.available + refused.held >= record.amount
    return "" if held == (refused.code == "credits_held") else "the wrong one of the two refusals of funds"


def _receipt(record: Record, applied: Applied) -> str:
    transaction, balance = applied.transaction, applied.balance
    if transaction.kind != KIND[record.verb]:
        return f"{record.verb} answered with a transaction {transaction.kind}"
    if {transaction.account_id, balance.account_id} != {record.account}:
        return "an answer about another account"
    if transaction.amount != record.amount and record.verb in ("grant", "deduct", "reserve"):
        return f"{record.amount} were asked for, and {transaction.amount} moved"
    if min(balance.available, balance.held, transaction.balance.available, transaction.balance.held) < 0:
        return "a balance below zero"
    if balance.version < transaction.version or balance.version < record.known_version:
        return f"a balance older than what was known, {record.known_version}"
    if balance.version == transaction.version and (balance.available, balance.held) != (
        transaction.balance.available,
        transaction.balance.held,
    ):
        return "two balances of one version"
    return ""


def _hold(record: Record, applied: Applied) -> str:
    hold = applied.reservation
    if record.verb in ("grant", "deduct"):
        return ""
    if hold is None or hold.id != applied.transaction.reservation_id:
        return "no reservation, or another one than the transaction's"
    if record.verb != "reserve" and hold.id != record.reservation:
        return "another reservation than was asked about"
    if hold.reserved != hold.captured + hold.released + hold.held:
        return "a reservation that does not add up"
    if record.verb == "confirm" and hold.status != "confirmed":
        return f"confirmed, and {hold.status}"
    if record.verb == "cancel" and (hold.status, hold.cancel_cause) != ("cancelled", "requested"):
        return f"cancelled, and {hold.status} ({hold.cancel_cause})"
    return ""

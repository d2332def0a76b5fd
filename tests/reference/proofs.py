"""What an entry proves by itself: its kind, its amount and its legs tell the same story."""

from app.ledger.entries import Entry
from tests.reference.accounts import OVERDRAFT


class Broken(AssertionError):
    """A promise does not hold; the text says which and where."""


def demand(holds: bool, promise: str) -> None:
    if not holds:
        raise Broken(promise)


def moved(entry: Entry) -> tuple[int, int]:
    """The change of available and of held that its kind and its amounts say."""
    amount, captured, charged = entry.amount, entry.captured or 0, entry.charged or 0
    freed = entry.released or 0
    match entry.kind:
        case "granted" | "refunded" | "adjusted":
            return amount, 0
        case "deducted" | "lapsed":
            return -amount, 0
        case "reserved":
            return -amount, amount
        case "confirmed":
            return freed - charged, -captured - freed
        case "cancelled" | "expired":
            return freed, -freed
    return 0, 0


def prove(entry: Entry, at: str) -> None:
    """I3, for one entry."""
    legs = entry.legs
    sums = (sum(leg.available for leg in legs), sum(leg.held for leg in legs))
    demand(sums == moved(entry), f"I3: {at}: {entry.kind} of {entry.amount} moved {sums}")
    lots = {(leg.bucket, leg.expires_at_ms) for leg in legs}
    demand(len(lots) == len(legs), f"I3: {at}: two legs of one lot")
    demand(all(leg.available or leg.held for leg in legs), f"I3: {at}: a leg that moves nothing")
    demand(all(leg.held == 0 for leg in legs if leg.bucket == OVERDRAFT), f"I3: {at}: debt is held")
    if entry.kind == "confirmed":
        spent = (entry.captured or 0) + (entry.charged or 0)
        demand(entry.amount == spent, f"I3: {at}: spent is not captured + charged")
        demand(not (entry.charged and entry.released), f"I3: {at}: charged and released at once")
        demand(not (entry.late and (entry.captured or entry.released)), f"I3: {at}: late, and yet held")
    if entry.kind in {"cancelled", "expired"}:
        demand(entry.amount == entry.released, f"I3: {at}: the amount is not what was released")
    if entry.kind != "adjusted":
        demand(entry.amount >= 0, f"I3: {at}: a negative amount")

"""What entries prove, without a look at anything else.

An entry proves itself: its kind, its amount and its legs tell the same story. The entries of an account, in
their order, prove its balance, its lots, its floor and its states; all entries together, that nothing was
given back twice and that what came in is there, spent or lapsed. So this can be asked of any journal.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from app.ledger.credits import CREDITS_MAX
from app.ledger.entries import Entry
from tests.reference.accounts import OVERDRAFT

Lots = dict[tuple[str, int], tuple[int, int]]


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


class Folded(NamedTuple):
    """An account, from its entries alone. `lots`: available and held by bucket and expiry, empty ones too."""

    available: int
    held: int
    lots: Lots
    overdraft_limit: int
    status: str


def fold(name: str, entries: Sequence[Entry]) -> Folded:
    """I2, I3 and I12 after each entry of an account."""
    demand([each.version for each in entries] == [*range(1, len(entries) + 1)], f"I3: {name}: versions")
    lots: Lots = defaultdict(lambda: (0, 0))
    available = held = limit = 0
    status = "active"
    for entry in entries:
        at = f"{name}, version {entry.version}"
        prove(entry, at)
        demand(status != "closed" or entry.kind == "configured", f"{at}: {entry.kind} though closed")
        spends = entry.charged or entry.kind in {"deducted", "reserved", "extended"}
        demand(status != "frozen" or not spends, f"{at}: {entry.kind} though frozen")
        limit = limit if entry.overdraft_limit is None else entry.overdraft_limit
        status = entry.status or status
        for leg in entry.legs:
            was_available, was_held = lots[leg.bucket, leg.expires_at_ms]
            lots[leg.bucket, leg.expires_at_ms] = (was_available + leg.available, was_held + leg.held)
        _prove_lots(lots, limit, at)
        available += sum(leg.available for leg in entry.legs)
        held += sum(leg.held for leg in entry.legs)
        demand((entry.available, entry.held) == (available, held), f"I3: {at}: legs and balance differ")
        demand(available >= -limit and held >= 0, f"I2: {at}: below the floor")
        demand(available + held <= CREDITS_MAX, f"I12: {at}: above 2^53 - 1")
        demand(status != "closed" or (available, held) == (0, 0), f"{at}: closed, and not empty")
    prove_conserved(entries, available, held)
    return Folded(available, held, dict(lots), limit, status)


def _prove_lots(lots: Lots, limit: int, at: str) -> None:
    """Only the overdraft is below zero, and while it is nothing is available elsewhere."""
    debt = lots[OVERDRAFT, 0][0]
    demand(-limit <= debt <= 0, f"I2: {at}: a debt of {-debt}")
    for (bucket, _), (available, held) in lots.items():
        if bucket != OVERDRAFT:
            demand(min(available, held) >= 0, f"I2: {at}: a lot below the floor")
            demand(not (debt and available), f"{at}: in debt, and something is available")


def prove_conserved(entries: Iterable[Entry], available: int, held: int) -> None:
    """I3: what came in is there, spent or lapsed; for an account or for the whole."""
    sums: Counter[str] = Counter()
    for entry in entries:
        sums[entry.kind] += entry.amount
    came = sums["granted"] + sums["refunded"] + sums["adjusted"]
    spent = sums["deducted"] + sums["confirmed"]
    equation = f"{came} = {available} + {held} + {spent} + {sums['lapsed']}"
    demand(
        came == available + held + spent + sums["lapsed"],
        f"I3: granted + refunded + adjusted = available + held + spent + lapsed: {equation}",
    )


def prove_refunds(entries: Mapping[str, Entry]) -> None:
    """What was given back of a transaction never exceeds it, and goes to whom it was taken from.

    Args:
        entries: By transaction id.
    """
    back: Counter[str] = Counter()
    for entry in entries.values():
        if entry.refund_of is None:
            continue
        name, original = entry.refund_of, entries[entry.refund_of]
        demand(entry.kind == "refunded", f"{name} is given back as {entry.kind}")
        demand(original.kind in {"deducted", "confirmed"}, f"{name} is {original.kind}, and given back")
        demand(original.account == entry.account, f"{name} is given back to {entry.account}")
        back[name] += entry.amount
        demand(back[name] <= original.amount, f"{name} spent {original.amount}, and gave back {back[name]}")


class Settled(NamedTuple):
    """A reservation, from its entries alone. `ended`: by an entry of which kind; empty while it is open."""

    reserved: int
    captured: int
    charged: int
    released: int
    held: int
    ended: str


def settle(name: str, entries: Sequence[Entry]) -> Settled:
    """I3 and I5 for one reservation. Refunds are not among its entries."""
    reserved = sum(each.amount for each in entries if each.kind == "reserved")
    captured, charged, released = (
        sum(getattr(each, what) or 0 for each in entries) for what in ("captured", "charged", "released")
    )
    held, ended = 0, ""
    for each in entries:
        may_follow = not ended or each.kind == "bound" or (each.late and ended == "expired")
        demand(may_follow, f"I5: {name}: {each.kind} after it was {ended}")
        held += sum(leg.held for leg in each.legs)
        if each.kind in {"cancelled", "expired"} or (each.kind == "confirmed" and held == 0):
            ended = each.kind
    demand(reserved == captured + released + held, f"I3: {name} does not add up")
    net = sum(leg.available + leg.held for each in entries for leg in each.legs)
    demand(-net == captured + charged, f"I3: {name}: what is gone is not what was spent")
    return Settled(reserved, captured, charged, released, held, ended)

"""I2, I3 and the order of the journal, checked from the journal up. What is stored is not believed."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING

from app.ledger.credits import CREDITS_MAX
from app.ledger.entries import Entry
from tests.reference.accounts import LOTS_MAX, OVERDRAFT, Account
from tests.reference.holds import Hold
from tests.reference.proofs import Broken, demand, prove

if TYPE_CHECKING:
    from tests.reference.books import Books

__all__ = ["Broken", "check", "check_conserved", "demand"]

Lots = dict[tuple[str, int], tuple[int, int]]


def check(books: "Books") -> None:
    """Check every account, every reservation, every refund and the whole."""
    entries = [line.entry for shard in books.journal for line in shard]
    for number, shard in enumerate(books.journal):
        demand(
            [line.sequence for line in shard] == [*range(1, len(shard) + 1)], f"I7: shard {number} has a gap"
        )
    of_account: dict[str, list[Entry]] = defaultdict(list)
    of_reservation: dict[str, list[Entry]] = defaultdict(list)
    holds: dict[str, list[Hold]] = defaultdict(list)
    for entry in entries:
        of_account[entry.account].append(entry)
        if entry.kind != "refunded":
            of_reservation[entry.reservation or ""].append(entry)
    demand(
        of_account.keys() == books.accounts.keys(), "I7: an account without entries, or entries without one"
    )
    for hold in books.holds.values():
        holds[hold.account].append(hold)
        _check_hold(hold, of_reservation[hold.id])
    for id_, account in books.accounts.items():
        _check_account(account, of_account[id_], holds[id_])
    _check_refunds(books)
    check_conserved(
        entries,
        available=sum(account.available for account in books.accounts.values()),
        held=sum(account.held for account in books.accounts.values()),
    )


def check_conserved(entries: Iterable[Entry], available: int, held: int) -> None:
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


def _check_account(account: Account, entries: list[Entry], holds: list[Hold]) -> None:
    """Each entry proves itself; together they prove the account."""
    name = f"account {account.id}"
    demand([each.version for each in entries] == [*range(1, account.version + 1)], f"I3: {name}: versions")
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
        _check_lots(lots, limit, at)
        available += sum(leg.available for leg in entry.legs)
        held += sum(leg.held for leg in entry.legs)
        demand((entry.available, entry.held) == (available, held), f"I3: {at}: legs and balance differ")
        demand(available >= -limit and held >= 0, f"I2: {at}: below the floor")
        demand(available + held <= CREDITS_MAX, f"I12: {at}: above 2^53 - 1")
        demand(status != "closed" or (available, held) == (0, 0), f"{at}: closed, and not empty")
    demand((account.available, account.held) == (available, held), f"I3: {name} is not what its entries say")
    demand((account.overdraft_limit, account.status) == (limit, status), f"I3: {name}: settings")
    stored = {
        (lot.bucket, lot.expires_at_ms): (lot.available, lot.held) for lot in account.lots if not lot.empty
    }
    demand(stored == {lot: sums for lot, sums in lots.items() if any(sums)}, f"I3: {name}: lots")
    rows = sum(lot.bucket != OVERDRAFT for lot in account.lots)
    demand(rows <= LOTS_MAX, f"I14: {name} has {rows} lots")
    pending = {hold.id: hold.deadline_ms for hold in holds if hold.status == "pending"}
    demand(account.open_holds == pending, f"I3: {name}: open holds")
    holding: Counter[tuple[str, int]] = Counter()
    for hold in holds:
        for part in hold.legs:
            holding[part.bucket, part.expires_at_ms] += part.held
    demand(
        {lot: sums[1] for lot, sums in lots.items() if sums[1]} == dict(holding),
        f"I3: {name}: who holds what",
    )
    check_conserved(entries, available, held)


def _check_lots(lots: Lots, limit: int, at: str) -> None:
    """Only the overdraft is below zero, and while it is nothing is available elsewhere."""
    debt = lots[OVERDRAFT, 0][0]
    demand(-limit <= debt <= 0, f"I2: {at}: a debt of {-debt}")
    for (bucket, _), (available, held) in lots.items():
        if bucket != OVERDRAFT:
            demand(min(available, held) >= 0, f"I2: {at}: a lot below the floor")
            demand(not (debt and available), f"{at}: in debt, and something is available")


def _check_hold(hold: Hold, entries: list[Entry]) -> None:
    """I3 and I5 for one reservation."""
    name = f"reservation {hold.id}"
    spending = [each for each in entries if each.kind == "confirmed"]
    endings = [each.kind for each in entries if each.kind in {"cancelled", "expired"}]
    if hold.status == "confirmed":
        demand(endings == ["expired"] * hold.late, f"I5: {name} was {endings} and confirmed")
        demand(
            [each.late for each in spending[:-1]] == [False] * (len(spending) - 1), f"I5: {name}: twice late"
        )
        demand(spending[-1].late == hold.late, f"I5: {name}: late or not")
    else:
        demand(len(endings) == (hold.status == "cancelled"), f"I5: {name} has endings {endings}")
    parts = len(spending) - (hold.status == "confirmed")
    demand(parts == len(hold.parts), f"I3: {name} has {parts} parts")
    demand(hold.asked.amount == hold.captured + hold.released + hold.held, f"I3: {name} does not add up")
    demand(sum(leg.held for each in entries for leg in each.legs) == hold.held, f"I3: {name}: legs")
    demand(sum(each.captured or 0 for each in entries) == hold.captured, f"I3: {name}: captured")
    demand(sum(each.charged or 0 for each in entries) == hold.charged, f"I3: {name}: charged")
    demand(sum(each.released or 0 for each in entries) == hold.released, f"I3: {name}: released")
    net = sum(leg.available + leg.held for each in entries for leg in each.legs)
    demand(-net == hold.captured + hold.charged, f"I3: {name}: what is gone is not what was spent")


def _check_refunds(books: "Books") -> None:
    """What was given back of a transaction never exceeds it, and goes to whom it was taken from."""
    originals = {books.transaction(line): line.entry for shard in books.journal for line in shard}
    back: Counter[str] = Counter()
    for line in (line for shard in books.journal for line in shard if line.entry.refund_of):
        entry, name = line.entry, line.entry.refund_of or ""
        original = originals[name]
        demand(entry.kind == "refunded", f"{name} is given back as {entry.kind}")
        demand(original.kind in {"deducted", "confirmed"}, f"{name} is {original.kind}, and given back")
        demand(original.account == entry.account, f"{name} is given back to {entry.account}")
        back[name] += entry.amount
        demand(back[name] <= original.amount, f"{name} spent {original.amount}, and gave back {back[name]}")

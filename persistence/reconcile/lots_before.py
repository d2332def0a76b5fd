"""The lots of an account before one of its entries, from those after it.

Credits are certain: legs tell them. An entry does not tell the priority that its bucket had, and a lot that
it has emptied may have left no row. Whatever is guessed here does not outlive the entries that are folded
onto it again, and those lead to what Redis has now.
"""

from collections.abc import Collection, Sequence

from msgspec.structs import replace

from app.ledger.entries import Entry
from app.ledger.replies import Lot
from persistence.folding import LAST_PRIORITY, OVERDRAFT, PRIORITY, spending_order
from persistence.reconcile.lost import NotAdoptable

Rows = dict[tuple[str, int], Lot]


def lots_before(lots: Sequence[Lot], entry: Entry, guessed: Collection[str]) -> list[Lot]:
    """The lots before an entry.

    An empty row stands for its bucket's priority alone. It stood there before for certain where that is
    another one than a new bucket has; otherwise the bucket may be new with this entry, and a row would keep
    a priority that was set before there was anything to have it.

    Args:
        lots: After it.
        entry: Of the same account.
        guessed: The buckets whose priority this entry or a later one has set.

    Raises:
        NotAdoptable: The entry did not lead to them.
    """
    rows = {(lot.bucket, lot.expires_at_ms): lot for lot in lots}
    for leg in entry.legs:
        after = _taken_out(rows, leg.bucket, leg.expires_at_ms)
        lot = replace(after, available=after.available - leg.available, held=after.held - leg.held)
        if lot.held < 0 or (lot.available < 0 and lot.bucket != OVERDRAFT):
            raise NotAdoptable(f"A lot of {entry.account} does not have what its entries say.")
        if lot.available or lot.held:
            rows[lot.bucket, lot.expires_at_ms] = lot
        elif lot.bucket == OVERDRAFT or any(each.bucket == lot.bucket for each in rows.values()):
            continue
        elif lot.priority != PRIORITY and lot.bucket not in guessed:
            rows[lot.bucket, 0] = replace(lot, expires_at_ms=0)
    return sorted(rows.values(), key=spending_order)


def _taken_out(rows: Rows, bucket: str, expires_at_ms: int) -> Lot:
    """A lot after the entry. One that went is like its bucket's empty row, which it has become, or else like
    its other lots; where there are none, its row was among the oldest.
    """
    if (bucket, expires_at_ms) in rows:
        return rows.pop((bucket, expires_at_ms))
    empty = rows.get((bucket, 0))
    if empty is not None and not empty.available and not empty.held:
        like = rows.pop((bucket, 0))
    else:
        new = Lot(bucket, LAST_PRIORITY if bucket == OVERDRAFT else PRIORITY, 0, 0, 0, 0)
        like = next((each for each in rows.values() if each.bucket == bucket), new)
    return replace(like, expires_at_ms=expires_at_ms, available=0, held=0)

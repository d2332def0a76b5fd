"""The lots of an account before one of its entries, from those after it.

Credits are certain: legs tell them. An entry does not tell the priority that its bucket had, and a lot that
it has emptied may have left no row. Whatever is guessed here does not outlive the entries that are folded
onto it again, and those lead to what Redis has now.
"""

from collections.abc import Sequence

from msgspec.structs import replace

from app.ledger.entries import Entry
from app.ledger.replies import Lot
from persistence.folding import LAST_PRIORITY, OVERDRAFT, PRIORITY, spending_order
from persistence.reconcile.lost import NotAdoptable

Rows = dict[tuple[str, int], Lot]


def lots_before(lots: Sequence[Lot], entry: Entry) -> list[Lot]:
    """The lots before an entry, from those after it.

    An empty row stands for its bucket's priority alone. Where that is the one that a new bucket has there may
    have been none, and a row would keep a priority that an earlier entry set before there was anything to
    have it. Where it is another one, the row was there, or an entry sets it again.

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
        elif lot.priority != PRIORITY:
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

"""What was given back of which transaction: never more than it spent."""

from collections.abc import Mapping
from dataclasses import dataclass

from app.ledger.entries import Entry
from app.ledger.shards import TransactionId
from persistence.folding.proof import Contradiction, takes_a_lost_place

_SPEND = frozenset({"deducted", "confirmed"})


@dataclass(slots=True)
class Original:
    """What a refund names: an entry of the journal, and how much of it was given back so far.

    `is_lost`: another entry has taken its place, because PostgreSQL has lost it; what it was nobody knows.
    """

    incarnation: int
    account: str
    kind: str
    amount: int
    is_lost: bool = False
    refunded: int = 0


def give_back(entry: Entry, sequence: int, shard: int, originals: Mapping[int, Original]) -> None:
    """Move on by an entry that names what it gives back.

    Args:
        entry: With `refund_of`.
        sequence: Its own.
        shard: Where it stands.
        originals: By sequence, in that shard.

    Raises:
        Contradiction: It gives back what was not spent, or not there.
    """
    named = TransactionId.parse(entry.refund_of or "")
    original = None if named is None else originals.get(named.sequence)
    if named is None or original is None or named.shard != shard or named.sequence >= sequence:
        raise Contradiction(f"gives back {entry.refund_of}, which is nothing before it")
    if not original.is_lost:
        its = original.incarnation, original.account
        if its != (named.incarnation, entry.account) or original.kind not in _SPEND:
            raise Contradiction(f"gives back {entry.refund_of}, where {entry.account} has spent nothing")
    is_told = takes_a_lost_place(entry)
    refunded = (entry.refunded or 0) if is_told else original.refunded + entry.amount
    if refunded <= original.refunded or (refunded > original.amount and not original.is_lost):
        raise Contradiction(
            f"leads to {refunded} given back of {entry.refund_of}, which spent {original.amount} and of "
            f"which {original.refunded} were given back before"
        )
    original.refunded = refunded

"""What PostgreSQL's journal proves by itself of every account, every reservation and every refund."""

from collections import defaultdict

import asyncpg
import msgspec

from app.ledger.entries import Entry
from app.ledger.shards import TransactionId
from tests.reference.proofs import Folded, Settled, fold, prove_conserved, prove_refunds, settle


class Proved(msgspec.Struct):
    """Entries by transaction id, in the order of their accounts; and what they come to."""

    entries: dict[str, Entry]
    accounts: dict[str, Folded]
    reservations: dict[str, Settled]

    def of(self, *kinds: str) -> list[Entry]:
        return [entry for entry in self.entries.values() if entry.kind in kinds]


async def proved(database: asyncpg.Pool) -> Proved:
    """Raises `Broken` where an entry says what cannot be."""
    rows = await database.fetch("SELECT shard, seq, entry FROM journal ORDER BY account, version")
    entries: dict[str, Entry] = {}
    of_account: dict[str, list[Entry]] = defaultdict(list)
    of_reservation: dict[str, list[Entry]] = defaultdict(list)
    for row in rows:
        entry = msgspec.json.decode(row["entry"], type=Entry)
        entries[str(TransactionId(row["shard"], entry.incarnation, row["seq"]))] = entry
        of_account[entry.account].append(entry)
        if entry.reservation is not None and entry.kind != "refunded":
            of_reservation[entry.reservation].append(entry)
    accounts = {id_: fold(id_, found) for id_, found in of_account.items()}
    reservations = {id_: settle(id_, found) for id_, found in of_reservation.items()}
    prove_refunds(entries)
    prove_conserved(
        entries.values(),
        available=sum(each.available for each in accounts.values()),
        held=sum(each.held for each in accounts.values()),
    )
    return Proved(entries, accounts, reservations)

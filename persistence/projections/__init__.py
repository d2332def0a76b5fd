"""The tables that show what the journal adds up to, moved in the transaction that appends the rows.

A batch is folded in memory onto the rows that it touches, and every table is written once, with sets. What
happens seldom (settings, extensions, parts, refunds) has statements of its own, so that the usual ones stay
narrow.
"""

from collections.abc import Sequence

from app.ledger.stream import Broken, Line
from persistence.folding import Contradiction, takes_a_lost_place
from persistence.pool import Connection
from persistence.projections.accounts import Accounts
from persistence.projections.moments import at
from persistence.projections.refunds import Refunds
from persistence.projections.reservations import Reservations

__all__ = ["Projections", "at"]

_RESERVES = frozenset({"reserved", "bound", "extended", "confirmed", "cancelled", "expired"})
_MOVES = frozenset({"granted", "deducted", "lapsed", "repaired", "refunded", "adjusted", "configured"})


class Projections:
    """The rows that a batch touches: loaded, folded, stored. Lives as long as one transaction."""

    def __init__(self, shard: int) -> None:
        self._accounts = Accounts(shard)
        self._reservations = Reservations(shard)
        self._refunds = Refunds(shard)

    async def load(self, connection: Connection, lines: Sequence[Line]) -> None:
        """Read what the journal has so far of all that `lines` are about. The shard must be locked.

        Raises:
            Broken: What it has of one of them does not follow.
        """
        await self._accounts.load(connection, list({line.entry.account for line in lines}))
        made, touched, refunding = set(), set(), []
        for line in lines:
            entry = line.entry
            if entry.kind == "reserved":
                made.add(entry.reservation)
            elif entry.reservation is not None and entry.kind != "refunded":
                touched.add(entry.reservation)
            if entry.refund_of is not None:
                refunding.append(line)
        if touched - made:
            try:
                await self._reservations.load(connection, list(touched - made))
            except Contradiction as error:
                raise Broken(lines[0].sequence, f"is about what contradicts itself: {error}.") from error
        if refunding:
            await self._refunds.load(connection, refunding, lines)

    def fold(self, lines: Sequence[Line]) -> None:
        """Move on by `lines`.

        Raises:
            Broken: The first that contradicts what came before it.
        """
        for line in lines:
            try:
                self._fold(line)
            except Contradiction as error:
                raise Broken(line.sequence, f"{error}.") from error

    def _fold(self, line: Line) -> None:
        entry = line.entry
        held = self._accounts.fold(entry)
        if entry.kind in _RESERVES and entry.reservation is not None:
            self._reservations.fold(line, held)
        elif entry.kind == "adjusted" and takes_a_lost_place(entry):
            self._adopt(line, held)
        elif entry.kind in _MOVES:
            if held != 0:
                raise Contradiction(f"is {entry.kind} and changes what is held by {held}")
            if entry.kind == "refunded":
                self._refunds.fold(line)
        else:
            raise Contradiction(f"is of a kind that this release does not keep ({entry.kind})")

    def _adopt(self, line: Line, held: int) -> None:
        """An entry that took the place of a lost one may say how a reservation stands, or a refund."""
        if line.entry.refund_of is not None:
            self._refunds.fold(line)
        if line.entry.reservation is not None:
            self._reservations.adopt(line.entry, held)
        elif held != 0:
            raise Contradiction(f"is adjusted and changes what is held by {held}")

    async def store(self, connection: Connection) -> None:
        """Write everything that was folded."""
        await self._accounts.store(connection)
        await self._reservations.store(connection)
        await self._refunds.store(connection)

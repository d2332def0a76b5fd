"""From the script's answer to what the caller is told, where Redis alone does not know everything.

Operations are looked at together, so that Redis and the journal are asked once for all of them.
"""

from collections.abc import Callable, Iterable, Sequence

from app.ledger.acknowledged import Acknowledged
from app.ledger.asked import Asked, says
from app.ledger.backing import NOWHERE, Extent
from app.ledger.errors import (
    KEY,
    IdempotencyMismatch,
    LedgerError,
    LedgerFenced,
    LedgerUnavailable,
)
from app.ledger.forgotten import settled_outcome
from app.ledger.lasting import is_beyond_memory, keyed
from app.ledger.past import Past, missing_entry
from app.ledger.present import Present
from app.ledger.receipts import Receipt, error_of, receipt_of
from app.ledger.replies import Applied
from app.ledger.shards import SHARDS_MAX, shard_of_reservation


class Outcomes:
    """Finds what each operation came to."""

    def __init__(self, past: Past, present: Present, acknowledged: Acknowledged) -> None:
        self._past = past
        self._present = present
        self._acknowledged = acknowledged

    async def recall(self, asked: Iterable[Asked], now_ms: Callable[[], int]) -> None:
        """Find in the journal what was answered to keys that Redis may have forgotten.

        While it cannot be asked, nothing is carried out under such a key; what Redis remembers is answered.
        """
        beyond = [each for each in asked if is_beyond_memory(each.operation, now_ms)]
        try:
            await self._compare(beyond)
        except LedgerUnavailable as error:
            away = LedgerUnavailable(**error.facts | {"cause": KEY})
            for each in beyond:
                each.away, each.operation.journaled = away, NOWHERE

    def receive(self, asked: Sequence[Asked]) -> list[Asked]:
        """Give receipts to those of which Redis has told everything; the others are returned."""
        for each in asked:
            if type(each.answer) is tuple:
                each.outcome = receipt_of(each.operation, each.answer, self._acknowledged)
        return [each for each in asked if each.outcome is None]

    async def settle(self, asked: Sequence[Asked]) -> None:
        """Give each its outcome. Those that nothing in the past answers have been sent."""
        for each in asked:
            if each.is_open():
                self._hear(each)
        rest = [each for each in asked if each.outcome is None]
        if rest:
            unknown = [each for each in rest if each.is_open()]
            await self._look_for_accounts([each for each in unknown if says(each.answer, "account_unknown")])
            await self.look_for_reservations([each for each in unknown if each.is_forgotten()])
            await self._replay([each for each in rest if each.outcome is None])

    def _hear(self, asked: Asked) -> None:
        """What the answer says by itself; else what of it is missing."""
        answer = asked.answer
        assert answer is not None, "it was not sent"
        if isinstance(answer, LedgerError):
            asked.outcome = answer
            return
        asked.outcome = receipt_of(asked.operation, answer, self._acknowledged)
        if asked.outcome is not None:
            return
        result, reply = answer
        if isinstance(result, Applied):  # Redis has forgotten the entry, or the reservation
            asked.sequence = result.sequence
            asked.account = reply.accounts[result.account] if result.account >= 0 else None
            asked.reservation = reply.reservations[result.reservation] if result.reservation >= 0 else None
        elif says(answer, "account_unknown") and "account" in asked.facts:
            why = f"account {asked.facts['account']} has a reservation and is missing in Redis"
            asked.outcome = LedgerFenced(shard=asked.operation.shard, why=why)
        elif not says(answer, "account_unknown") and not asked.is_forgotten():
            asked.outcome = asked.away if asked.away and asked.is_unknown() else error_of(result)

    async def _look_for_accounts(self, asked: Sequence[Asked]) -> None:
        """Redis did not know them."""
        if not asked:
            return
        unknown = await self._present.unknown({each.account_named: each.operation.shard for each in asked})
        for each in asked:
            each.outcome = unknown[each.account_named]

    async def look_for_reservations(self, asked: Sequence[Asked]) -> None:
        """Redis did not know them. Afterwards each has an outcome, or the entry that answers it."""
        if not asked:
            return
        found = await self._present.forgotten(
            {each.settling.reservation: each.operation.shard for each in asked}
        )
        for each in asked:
            reservation = found[each.settling.reservation]
            if isinstance(reservation, LedgerError):
                each.outcome = reservation
            else:
                each.reservation = reservation
        known = [each for each in asked if each.outcome is None]
        keyed_ = [each for each in known if each.operation.key is not None]
        try:
            await self._compare(keyed_)
        except LedgerUnavailable as error:
            for each in keyed_:
                each.outcome = error
        for each in known:
            if each.is_open() and each.reservation is not None:
                try:
                    each.sequence = settled_outcome(each.settling, each.reservation)
                except LedgerError as error:
                    each.outcome = error

    async def _compare(self, asked: Sequence[Asked]) -> None:
        """What the journal has under the keys of these: the first answer, or another request's.

        Raises:
            LedgerUnavailable: It is away.
        """
        answers = await self._past.answered(keyed(each.operation) for each in asked)
        for each in asked:
            operation, found = each.operation, answers[keyed(each.operation)]
            if isinstance(found, Extent):
                # what else was asked of the journal for a refund was asked before, when it was not as far
                operation.journaled = operation.journaled or found
            elif found.entry.fingerprint == operation.fingerprint:
                each.sequence, each.recorded = found.sequence, found
            else:
                each.outcome = IdempotencyMismatch()
        await self._lead_back([each for each in asked if each.is_of_another()])

    async def _lead_back(self, asked: Sequence[Asked]) -> None:
        """The task that these have named belongs to a later reservation by now. They are answered for the one
        that they were answered for first; but nobody is told of another account's.
        """
        latest = await self._present.all_reservations(
            {each.settling.reservation: each.operation.shard for each in asked}
        )
        for each in asked:
            operation, entry = each.settling, each.entry
            reservation = latest[operation.reservation]
            if isinstance(reservation, LedgerError):
                each.outcome = reservation
            elif reservation.account != entry.account:
                each.outcome = IdempotencyMismatch()
            else:
                assert entry.reservation is not None, "an entry of no reservation"
                shard = shard_of_reservation(entry.reservation, SHARDS_MAX)
                assert shard is not None, "a reservation without a shard"
                operation.reservation, operation.shard, each.reservation = entry.reservation, shard, None

    async def _replay(self, asked: Sequence[Asked]) -> None:
        """Answer with entries that were written before."""
        away: LedgerError | None = None
        try:
            entries = await self._past.entries(each.place for each in asked if each.recorded is None)
        except LedgerUnavailable as error:
            entries, away = {}, error
        for each in asked:
            each.recorded = each.recorded or entries.get(each.place)
            if each.recorded is None:
                each.outcome = away or missing_entry(*each.place)
        await self._show([each for each in asked if each.outcome is None])

    async def _show(self, asked: Sequence[Asked]) -> None:
        """Receipts of entries that were found, with everything else as it is now."""
        accounts = await self._present.accounts(
            {each.entry.account: each.operation.shard for each in asked if each.account is None}
        )
        reservations = await self._present.all_reservations(
            {each.shows: each.operation.shard for each in asked if each.shows and each.reservation is None}
        )
        for each in asked:
            account = each.account or accounts[each.entry.account]
            reservation = each.reservation or (reservations[each.shows] if each.shows else None)
            if isinstance(account, LedgerError):
                each.outcome = account
            elif isinstance(reservation, LedgerError):
                each.outcome = reservation
            else:
                notes = each.recorded.notes if each.recorded else None
                each.outcome = Receipt(*each.place, each.entry, notes, account, reservation, replayed=True)

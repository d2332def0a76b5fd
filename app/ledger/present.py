"""What is there now: from Redis, and what Redis has forgotten from the journal. Nothing is changed here.

Everything is asked in bulk, and what cannot be told of one thing stands in its place as an error.
"""

from collections.abc import Collection, Mapping, Sequence

from app.ledger.asked import says
from app.ledger.backing import Recorded
from app.ledger.batcher import Batcher
from app.ledger.errors import (
    AccountNotFound,
    LedgerError,
    LedgerUnavailable,
    ReservationNotFound,
    Unavailable,
)
from app.ledger.operations import Balance, Find, Locate, Operation, Trace
from app.ledger.past import Past, Place, Task, missing_account, missing_reservation
from app.ledger.receipts import error_of
from app.ledger.replies import Account, Applied, Located, Reservation
from app.ledger.tickets import Answer


class Present:
    """Reads for everybody who needs several things at once."""

    def __init__(self, batcher: Batcher, past: Past) -> None:
        self._batcher = batcher
        self._past = past

    async def accounts(self, wanted: Mapping[str, int]) -> dict[str, Account | LedgerError]:
        """Each account, by Redis' time. `wanted`: accounts with their shards."""
        found: dict[str, Account | LedgerError] = {}
        unknown: dict[str, int] = {}
        answers = await self.ask([Balance(shard=shard, account=id_) for id_, shard in wanted.items()])
        for (id_, shard), answer in zip(wanted.items(), answers, strict=True):
            if says(answer, "account_unknown"):
                unknown[id_] = shard
            elif isinstance(answer, LedgerError):
                found[id_] = answer
            else:
                result, reply = answer
                found[id_] = (
                    reply.accounts[result.account] if isinstance(result, Applied) else error_of(result)
                )
        return {**found, **await self.unknown(unknown)} if unknown else found

    async def unknown(self, accounts: Mapping[str, int]) -> dict[str, LedgerError]:
        """What is to be said of accounts that Redis did not know: not found, or drift.

        Somebody may have opened one meanwhile, and the journal may have heard of it by then.
        """
        try:
            known = await self._past.knows(accounts)
        except LedgerUnavailable as error:
            return dict.fromkeys(accounts, error)
        found: dict[str, LedgerError] = {id_: AccountNotFound() for id_ in accounts}
        again = [Balance(shard=accounts[id_], account=id_) for id_ in known]
        for each, answer in zip(again, await self.ask(again), strict=True):
            if says(answer, "account_unknown"):
                found[each.account] = missing_account(each.shard, each.account)
            elif isinstance(answer, LedgerError):
                found[each.account] = answer
            elif not isinstance(answer[0], Applied):
                found[each.account] = error_of(answer[0])
        return found

    async def forgotten(self, wanted: Mapping[str, int]) -> dict[str, Reservation | LedgerError]:
        """Reservations that Redis does not know, from the journal. `wanted`: their ids with their shards."""
        try:
            known = await self._past.reservations(wanted)
        except LedgerUnavailable as error:
            return dict.fromkeys(wanted, error)
        found: dict[str, Reservation | LedgerError] = {}
        for id_, shard in wanted.items():
            reservation = known.get(id_)
            if reservation is None:
                found[id_] = ReservationNotFound()
            else:
                is_open = reservation.status == "pending"
                found[id_] = missing_reservation(shard, id_) if is_open else reservation
        return found

    async def reservations(
        self, wanted: Mapping[str, int]
    ) -> tuple[dict[str, Reservation | LedgerError], dict[str, int]]:
        """Those reservations that Redis has, and those that it does not know with their shards."""
        found: dict[str, Reservation | LedgerError] = {}
        unknown: dict[str, int] = {}
        answers = await self.ask([Find(shard=shard, reservation=id_) for id_, shard in wanted.items()])
        for (id_, shard), answer in zip(wanted.items(), answers, strict=True):
            if says(answer, ReservationNotFound.word):
                unknown[id_] = shard
            elif isinstance(answer, LedgerError):
                found[id_] = answer
            else:
                result, reply = answer
                found[id_] = (
                    reply.reservations[result.reservation]
                    if isinstance(result, Applied)
                    else error_of(result)
                )
        return found, unknown

    async def all_reservations(self, wanted: Mapping[str, int]) -> dict[str, Reservation | LedgerError]:
        """Each reservation, wherever it is known."""
        found, unknown = await self.reservations(wanted)
        return found | await self.forgotten(unknown) if unknown else found

    async def tasks(self, wanted: Mapping[Task, int]) -> dict[Task, str | LedgerError]:
        """The reservation that each task belongs to, the latest when there were several."""
        found: dict[Task, str | LedgerError] = {}
        unknown: list[Task] = []
        asked = [Locate(shard=shard, provider=task[0], task=task[1]) for task, shard in wanted.items()]
        for task, answer in zip(wanted, await self.ask(asked), strict=True):
            if says(answer, ReservationNotFound.word):
                unknown.append(task)
            elif isinstance(answer, LedgerError):
                found[task] = answer
            else:
                result = answer[0]
                found[task] = result.reservation if isinstance(result, Located) else error_of(result)
        try:
            known = await self._past.tasks(unknown)
        except LedgerUnavailable as error:
            return found | dict.fromkeys(unknown, error)
        return found | {task: known.get(task) or ReservationNotFound() for task in unknown}

    async def recent_entries(self, places: Collection[Place]) -> dict[Place, Recorded | LedgerError]:
        """Those of the entries that Redis still has."""
        found: dict[Place, Recorded | LedgerError] = {}
        asked = [Trace(shard=shard, sequence=sequence) for shard, sequence in places]
        for place, answer in zip(places, await self.ask(asked), strict=True):
            if isinstance(answer, LedgerError):
                found[place] = answer
                continue
            result = answer[0]
            if isinstance(result, Applied) and result.entry is not None:
                found[place] = Recorded(place[1], result.entry, result.notes)
            elif not says(answer, "transaction_not_found"):
                found[place] = error_of(result)
        return found

    async def ask(self, operations: Sequence[Operation]) -> list[Answer | LedgerError]:
        """What the script answers to each, or why it does not."""
        if not operations:
            return []
        try:
            return await self._batcher.submit_all(operations)
        except Unavailable as error:  # whoever reads for an operation may have carried it out already
            return [error] * len(operations)

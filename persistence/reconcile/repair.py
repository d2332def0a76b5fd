"""Puts right what differs, by what the journal says: first the projections, then Redis.

A repair of Redis is an entry of its own. It names the version that was seen, so that a call which came in
between is never undone: then everything is looked at again. Killed between any two steps it can be begun
again: what has been put right is found equal.
"""

import re
from collections.abc import Collection, Iterable
from typing import Any

from msgspec import Struct
from redis.asyncio import Redis

from app.ledger.entries import seal
from app.ledger.operations import Repair
from app.ledger.replies import Lot
from app.ledger.shards import TransactionId
from persistence import rebuild
from persistence.admission_steps import Barrier, past
from persistence.pool import Connection
from persistence.reconcile import drift, remembered, truth
from persistence.reconcile.drift import Drift, as_jsonb
from persistence.reconcile.hands import Hands, NotRepaired
from persistence.reconcile.page import Looked, differences, look
from persistence.reconcile.sides import WAIT_SECONDS, Sides
from persistence.reconcile.sighting import Place
from persistence.reconcile.state import is_reservation_id

ATTEMPTS_MAX = 50
RESERVATIONS_AT_ONCE = 500
NOTHING_THERE = -1

_RESERVATION = re.compile(r"(?:projection\.)?reservation\.([0-9a-f-]{36})")
UNDER_WAY = "its repair is under way; if it does not end, `lastro reconcile --repair --account {}` goes on."


class Repaired(Struct, frozen=True):
    """What was put right of an account. `transactions`: the entries of it; none where only tables were
    wrong.
    """

    account: str
    projection: bool
    transactions: list[TransactionId]


RECORD = """
INSERT INTO repairs (by, account, side, before, after, reason) VALUES ($1, $2, $3, $4::jsonb, $5::jsonb, $6)
RETURNING id
"""

NAME_TRANSACTION = "UPDATE repairs SET transaction = $2 WHERE id = $1"


class Repairer:
    """Repairs accounts of an admitted Redis.

    Args:
        connection: Outside any transaction.
        redis: To look at; its retries are off.
        hands: What changes Redis.
        by: Who wants it, 1 to 64 characters.
        reason: Kept with it; erasable.
        barrier: `after projection`, `after look`, `after record`, `after repair`; tests stop it there.
    """

    def __init__(
        self,
        connection: Connection,
        redis: Redis,
        hands: Hands,
        by: str,
        *,
        reason: str = "as the journal has it",
        wait_seconds: float = WAIT_SECONDS,
        barrier: Barrier = past,
    ) -> None:
        self._connection = connection
        self._redis = redis
        self._hands = hands
        self._by = by
        self._reason = reason
        self._wait_seconds = wait_seconds
        self._barrier = barrier

    async def repair(self, place: Place, account: str, found: Iterable[Drift] = ()) -> Repaired:
        """Make both sides of an account what its entries say. Repeating it changes nothing more.

        Args:
            place: Its shard, admitted and not fenced.
            account: Known to one side at least.
            found: The drift of it: of reservations that have ended, only those named there are looked at.

        Raises:
            NotRepaired: See there.
            Behind, NotExaminable: PostgreSQL or Redis cannot be looked at now.
            app.ledger.errors.LedgerError: Redis gave no definite answer; repeat it.
        """
        sides = Sides(self._connection, self._redis, place, self._wait_seconds)
        fields = [each.field for each in found]
        named = {match[1] for each in fields if (match := _RESERVATION.match(each))}
        refunded = {
            each.removeprefix(remembered.PREFIX) for each in fields if each.startswith(remembered.PREFIX)
        }
        projection = await self._repair_projection(place.shard, account)
        await self._barrier("after projection")
        transactions: list[TransactionId] = []
        for _ in range(ATTEMPTS_MAX):
            looked = await look(sides, account, sorted(named))
            await self._barrier("after look")
            wrong = [*differences(looked), *await remembered.compare(sides, refunded, refunded)]
            if not wrong:
                return Repaired(account, projection, transactions)
            if looked.fault is not None:
                raise NotRepaired(
                    f"The journal contradicts itself about {account} ({looked.fault.field}: "
                    f"{looked.fault.redis}). `lastro verify` names what was changed."
                )
            transaction = await self._repair_redis(place.shard, looked, wrong, refunded)
            if transaction is not None:
                transactions.append(transaction)
        raise NotRepaired(f"{account} moves too fast to be repaired; fence it or try again.")

    async def _repair_projection(self, shard: int, account: str) -> bool:
        async with self._connection.transaction():
            rewritten = await truth.rewrite(self._connection, shard, account)
            if rewritten:
                await self._record(account, "projection", rewritten.before, rewritten.after)
            return bool(rewritten)

    async def _repair_redis(
        self, shard: int, looked: Looked, wrong: list[Drift], refunded: Collection[str]
    ) -> TransactionId | None:
        account, state = looked.state.account, looked.state
        every = _wrong_ones(looked, wrong)
        ids = every[:RESERVATIONS_AT_ONCE]
        known = await rebuild.reservations(
            self._connection, [each for each in ids if is_reservation_id(each)]
        )
        before = {hold.id: hold.text for hold in looked.sighting.holds if hold.id in ids}
        seen = drift.decoded_account(looked.sighting.text)
        sealed = seal(reason=self._reason)
        assert sealed is not None, "a repair without a reason"
        operation = Repair(
            shard=shard,
            by=f"operator:{self._by}",
            account=account.id,
            found=NOTHING_THERE if seen is None else seen.version,
            version=account.version,
            available=account.available,
            held=account.held,
            lots=[
                Lot(lot.bucket, lot.priority, lot.expires_at_ms, lot.available, lot.held, lot.since)
                for lot in account.lots
            ],
            overdraft_limit=account.overdraft_limit,
            status=account.status,
            low_balance=account.low_balance,
            open_holds=len(state.open),
            refunded=await remembered.totals_then(self._connection, account.id, account.version, refunded),
            reservations=[each for each in known.values() if each.account == account.id],
            strays=[id_ for id_ in ids if id_ not in known or known[id_].account != account.id],
            fence=UNDER_WAY.format(account.id) if len(every) > len(ids) else None,
            notes=sealed.text,
            notes_hash=sealed.hash,
        )
        record = await self._record(
            account.id,
            "redis",
            {
                "account": _text(looked.sighting.text),
                "reservations": {id_: _text(text) for id_, text in before.items()},
            },
            {"account": operation, "wrong": wrong},
        )
        await self._barrier("after record")
        transaction = await self._hands.repair(operation)
        await self._barrier("after repair")
        if transaction is not None:
            await self._connection.execute(NAME_TRANSACTION, record, str(transaction))
        return transaction

    async def _record(self, account: str, side: str, before: Any, after: Any) -> int:
        """Before it happens: a record without a transaction says that its outcome is in the journal alone."""
        record: int = await self._connection.fetchval(
            RECORD, self._by, account, side, as_jsonb(before), as_jsonb(after), self._reason
        )
        return record


def _wrong_ones(looked: Looked, wrong: Iterable[Drift]) -> list[str]:
    """The reservations of which something is wrong; Redis may have anything in the place of an id."""
    ids = {each.id for each in looked.sighting.holds} | looked.state.reservations.keys()
    named = {
        each.field.removeprefix("reservation.") for each in wrong if each.field.startswith("reservation.")
    }
    return sorted(ids & (named | {each.rpartition(".")[0] for each in named}))


def _text(stored: bytes) -> str:
    return stored.decode(errors="replace").replace("\x00", "�")

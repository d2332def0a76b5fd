"""An account whose past has everything that products need, and ways to spoil it behind the script's back."""

from typing import Any

from redis.asyncio import Redis

from app.ledger import keys, replies
from app.ledger.operations import (
    Configure,
    Confirm,
    Deduct,
    Extend,
    Grant,
    Operation,
    Original,
    Refund,
    Reserve,
)
from app.ledger.refunds import left_of
from app.ledger.shards import TransactionId, new_reservation_id
from tests.integration.reconcile.past import ANA, IN_2100_MS, NOW_MS, Past
from tests.integration.streams import Caller

PRICE = '{"model":"video","version":3,"base":"0","price":"1.5","units":"20"}'


class Products(Past):
    """Ana owes 10 of the 40 that she may. One job of hers is under way, extended and paid for in part; one
    was confirmed late. Of what she spent at once 6 were given back.
    """

    def __init__(self, caller: Caller, redis: Redis) -> None:
        super().__init__(caller, redis)
        self.part, self.late = (new_reservation_id(0, NOW_MS + each) for each in (10, 11))
        self.spent: Original
        self.not_refunded: str

    @property
    def refunded(self) -> str:
        """The transaction of which a part was given back."""
        return self.spent.transaction

    async def happen(self) -> "Products":
        await self.ask(
            Configure(shard=0, account=ANA, overdraft_limit=40, low_balance=5, open=True),
            Grant(shard=0, account=ANA, amount=60, bucket="plan", expires_at_ms=IN_2100_MS),
            Grant(shard=0, account=ANA, amount=50),
            Reserve(
                shard=0, account=ANA, reservation=self.part, amount=30, ttl_ms=3_600_000, price=PRICE,
                over_capture="cap", on_expired="charge",
            ),
            Reserve(
                shard=0, account=ANA, reservation=self.late, amount=7, ttl_ms=1, on_expired="charge"
            ),
            self.capture(8, "first"),
            Extend(shard=0, reservation=self.part, ttl_ms=7_200_000),
        )  # fmt: skip
        await self._expiry()
        await self.ask(
            Confirm(shard=0, reservation=self.late, amount=5), Grant(shard=0, account=ANA, amount=15)
        )
        first = Deduct(shard=0, account=ANA, amount=20)
        spent, other = (await self.ask(first, Deduct(shard=0, account=ANA, amount=30))).results
        self.spent, self.not_refunded = _original(spent), _original(other).transaction
        await self.refund(6)
        available = (await self.account(ANA)).available
        await self.ask(Deduct(shard=0, account=ANA, amount=available + 10))
        return self

    def capture(self, amount: int, key: str) -> Confirm:
        """A part of what is under way."""
        return Confirm(
            shard=0, reservation=self.part, amount=amount, final=False, key=key, fingerprint=f"print of {key}"
        )

    async def refund(self, amount: int) -> None:
        """Give back more of what was spent."""
        await self.ask(Refund(shard=0, account=ANA, originals=[self.spent], amount=amount))

    async def _expiry(self) -> None:
        """As soon as the clock of Redis says so."""
        while (await self.reservation(self.late)).status == "pending":
            await self._caller.grant(0)

    async def ask(self, *operations: Operation) -> replies.Reply:
        reply = await self._caller.call(operations)
        assert all(isinstance(each, replies.Applied) for each in reply.results), reply.results
        return reply

    async def put_refunded(self, transaction: str, total: Any) -> None:
        """Overwrite how much Redis remembers; `None`: it has forgotten."""
        name = keys.refunded(0, transaction)
        if total is None:
            await self._redis.delete(name)
        else:
            await self._redis.set(name, total, px=86_000_000)


def _original(spent: Any) -> Original:
    transaction = TransactionId(0, spent.entry.incarnation, spent.sequence)
    return Original(transaction=str(transaction), left=left_of(spent.entry))

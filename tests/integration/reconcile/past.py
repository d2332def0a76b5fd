"""Accounts of a known past, and ways to spoil them behind the script's back."""

import msgspec
from redis.asyncio import Redis

from app.ledger import keys
from app.ledger.operations import Cancel, Confirm, Grant, Reserve
from app.ledger.replies import Account, Reservation
from app.ledger.shards import new_reservation_id
from tests.integration.streams import Caller

IN_2100_MS = 4_102_444_800_000
NOW_MS = 1_767_355_200_000
ANA, BOB = "ana", "bob"
SHARD = {ANA: 0, BOB: 1}


def shard_of_account(account: str) -> int:
    """Accounts are at home where these tests say."""
    return SHARD[account] if account in SHARD else int(account.split("-")[1])


class Past:
    """Ana has two buckets, two open holds, one confirmed and one cancelled; Bob has some credits."""

    def __init__(self, caller: Caller, redis: Redis) -> None:
        self._caller = caller
        self._redis = redis
        ids = [new_reservation_id(0, NOW_MS + each) for each in range(4)]
        self.open, self.other, self.confirmed, self.cancelled = ids

    async def happen(self) -> "Past":
        reply = await self._caller.call([
            Grant(shard=0, account=ANA, amount=100, open=True),
            Grant(shard=0, account=ANA, amount=50, bucket="plan", priority=10, expires_at_ms=IN_2100_MS),
            *(
                Reserve(shard=0, account=ANA, reservation=each, amount=7, ttl_ms=3_600_000)
                for each in (self.open, self.other, self.confirmed, self.cancelled)
            ),
            Confirm(shard=0, reservation=self.confirmed, amount=5),
            Cancel(shard=0, reservation=self.cancelled),
            Grant(shard=1, account=BOB, amount=30, open=True),
        ])  # fmt: skip
        assert reply.status == "ok"
        return self

    async def account(self, account: str) -> Account:
        text = await self._redis.get(keys.account(SHARD[account], account))
        return msgspec.json.decode(text, type=Account)

    async def put_account(self, account: str, **changes: object) -> None:
        """Overwrite members of what Redis stores."""
        changed = msgspec.structs.replace(await self.account(account), **changes)
        await self._redis.set(keys.account(SHARD[account], account), msgspec.json.encode(changed))

    async def reservation(self, reservation: str) -> Reservation:
        text = await self._redis.get(keys.reservation(0, reservation))
        return msgspec.json.decode(text, type=Reservation)

    async def put_reservation(self, reservation: str, **changes: object) -> None:
        changed = msgspec.structs.replace(await self.reservation(reservation), **changes)
        text = msgspec.json.encode(changed)
        await self._redis.set(keys.reservation(0, reservation), text, keepttl=True)

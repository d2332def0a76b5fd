"""How reconciliation changes Redis: by operations of the script, like everybody else.

It has a batcher of its own, because a repair is nobody's request: it may wait longer than one.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis.asyncio import Redis

from app.ledger import scripts
from app.ledger.backing import Backing
from app.ledger.batcher import Batcher, Limits
from app.ledger.operations import Fence, Operation, Repair
from app.ledger.replies import Applied, Declined
from app.ledger.shards import TransactionId

REQUEST_SECONDS = 15.0


class NotRepaired(Exception):
    """It could not be put right; the text says why and what to do. Nothing was made worse."""


class Hands:
    """Fences and repairs accounts of an admitted Redis."""

    def __init__(self, batcher: Batcher) -> None:
        self._batcher = batcher

    async def fence(self, shard: int, account: str, reason: str) -> bool:
        """Make an account refuse, alone. `False`: Redis does not know it, and so refuses anyway.

        Raises:
            app.ledger.errors.LedgerError: It could not be told to.
        """
        result = await self._sent(Fence(shard=shard, account=account, reason=reason))
        return isinstance(result, Applied)

    async def repair(self, operation: Repair) -> TransactionId | None:
        """Put an account right. `None`: it has moved since it was seen, and nothing was written.

        Raises:
            app.ledger.errors.LedgerError: No definite answer; looking again says whether it happened.
        """
        result = await self._sent(operation)
        if isinstance(result, Applied) and result.entry is not None:
            return TransactionId(operation.shard, result.entry.incarnation, result.sequence)
        return None

    async def _sent(self, operation: Operation) -> Applied | Declined:
        result, _ = await self._batcher.submit(operation)
        if isinstance(result, Declined) and result.word not in ("moved", "account_unknown"):
            raise NotRepaired(f"Redis answered {result.word}: {result.facts.get('why', '')}")
        assert not isinstance(result, tuple)
        return result  # type: ignore[return-value]


@asynccontextmanager
async def hands(redis: Redis, backing: Backing) -> AsyncIterator[Hands]:
    """Hands on a connection that is theirs alone; `backing` admits."""
    limits = Limits(request_seconds=REQUEST_SECONDS)
    batcher = Batcher(redis, scripts.load("apply"), backing, limits)
    batcher.start()
    try:
        yield Hands(batcher)
    finally:
        await batcher.stop()

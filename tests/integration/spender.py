"""A process of its own that captures parts of a reservation, refunds a transaction and deducts, all at once.

Says `ready`, waits for a line, and tells at the end as JSON how many credits it moved.
"""

import asyncio
import sys
from collections import Counter

import asyncpg
import msgspec

from app.ledger.errors import Refused
from app.ledger.operations import Confirm, Deduct
from app.ledger.receipts import Receipt
from app.ledger.shards import TransactionId
from tests.integration.ledgers import process


async def main(database_url: str, redis_url: str, reservation: str, transaction: str, name: str) -> None:
    """Forty times each, whatever is refused. `name` tells the keys of processes apart."""
    moved: Counter[str] = Counter()
    spent = TransactionId.parse(transaction)
    async with (
        asyncpg.create_pool(database_url, min_size=1, max_size=2) as pool,
        process(pool, redis_url, seconds=20.0) as ledger,
    ):

        async def capture(number: int) -> Receipt:
            key = f"{name}-{number}"
            return await ledger.confirm(
                Confirm(reservation=reservation, amount=3, final=False, key=key, fingerprint="f" * 16)
            )

        async def refund(number: int) -> Receipt:
            asked = await ledger.refunding(spent)
            asked.amount = 1 + number % 4
            return await ledger.refund(asked)

        async def deduct(_: int) -> Receipt:
            return await ledger.deduct(Deduct(account="ana", amount=2))

        async def attempt(what: str, number: int) -> None:
            try:
                receipt = await verbs[what](number)
            except Refused:
                return
            if not receipt.replayed:
                moved[what] += receipt.entry.amount

        verbs = {"captured": capture, "refunded": refund, "spent": deduct}
        print("ready", flush=True)  # noqa: T201
        sys.stdin.readline()
        await asyncio.gather(*(attempt(what, number) for number in range(40) for what in verbs))
    print(msgspec.json.encode(moved).decode(), flush=True)  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

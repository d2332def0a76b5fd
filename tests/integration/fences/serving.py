"""Whether a shard refuses, and whether it serves."""

import asyncio

import pytest

from app.ledger.errors import LedgerFenced
from tests.integration.ledgers import ACCOUNTS, deduct


async def refuses(ledger, shard: int) -> str:
    """Spending and asking; returns why."""
    with pytest.raises(LedgerFenced) as refusal:
        await deduct(ledger, shard)
    with pytest.raises(LedgerFenced):
        await ledger.balance(ACCOUNTS[shard])
    return str(refusal.value.facts["why"])


async def serves(ledger, shard: int) -> None:
    """Within a moment."""
    async with asyncio.timeout(5):
        while True:
            try:
                await deduct(ledger, shard)
            except LedgerFenced:
                await asyncio.sleep(0.01)
            else:
                return

"""A process that appends entries of some accounts, as fast as it can, until it is ended.

python -m tests.integration.reading.writer <database url> <account> ...
"""

import asyncio
import sys
import time

import asyncpg

from tests.integration.rows import MORNING_MS, Rows


async def write(url: str, accounts: list[str]) -> None:
    async with asyncpg.create_pool(url, min_size=1, max_size=1) as pool:
        rows = Rows(pool)
        while True:
            for account in accounts:
                await rows.append(account, after_ms=time.time_ns() // 1_000_000 - MORNING_MS)


if __name__ == "__main__":
    asyncio.run(write(sys.argv[1], sys.argv[2:]))

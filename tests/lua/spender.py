"""A process of its own that spends credits, once it is told to: `python -m tests.lua.spender`.

Reads one line of JSON: {url, ledger, server, shards, account, amounts}; says `ready`; reads another line;
deducts all amounts at the same moment; says what came of each, as a JSON list of words.
"""

import asyncio
import json
import sys

from app.ledger.backing import Terms
from app.ledger.connection import connect
from app.ledger.errors import LedgerError
from app.ledger.ledger import Ledger
from app.ledger.operations import Deduct
from tests.engine import Streams


async def main() -> None:
    asked = json.loads(sys.stdin.readline())
    async with connect(asked["url"]) as redis:
        journal = Streams(redis, asked["shards"])
        journal.terms = Terms(asked["ledger"], asked["server"], [1] * asked["shards"], {})
        ledger = Ledger(redis, journal)
        await ledger.start()
        await ledger.balance(asked["account"])
        print("ready", flush=True)  # noqa: T201 - this is what it is for
        sys.stdin.readline()
        answers = await asyncio.gather(
            *(ledger.deduct(Deduct(account=asked["account"], amount=amount)) for amount in asked["amounts"]),
            return_exceptions=True,
        )
        words = [each.word if isinstance(each, LedgerError) else "ok" for each in answers]
        print(json.dumps(words), flush=True)  # noqa: T201
        await ledger.stop()


if __name__ == "__main__":
    asyncio.run(main())

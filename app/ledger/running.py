"""Runs the small scripts: those that are not `apply`, for which the batcher has its own way."""

from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from app.ledger.scripts import Script


async def run(
    redis: Redis, script: Script, keys: Sequence[str], arguments: Sequence[str | bytes | int]
) -> Any:
    """The reply as Redis gives it. A server that does not know the script yet is taught it.

    Sent once, with the client's retries switched off by whoever made the client: an error of the connection
    leaves open whether the script ran.
    """
    try:
        return await redis.evalsha(script.sha, len(keys), *keys, *arguments)
    except NoScriptError:
        return await redis.eval(script.text, len(keys), *keys, *arguments)

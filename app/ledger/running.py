"""Runs the small scripts: those that are not `apply`, for which the batcher has its own way; and asks what
has to be asked in one moment.
"""

from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError

from app.ledger.connection import is_cluster, look_anew, node_of
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


async def at_once(redis: Redis, key: str, *commands: Sequence[str | bytes | int]) -> list[Any]:
    """What commands answer in one moment (MULTI); each answer may be an error.

    On a cluster MULTI is a command as others are, all to one node: a transaction of redis-py would there run
    each command in a thread and an event loop of its own, which must not open connections.

    Args:
        redis: Its retries are off.
        key: One of them, all of whose keys are of one shard.
        commands: Words, the first of which is the command.

    Raises:
        redis.exceptions.RedisError: Redis is away; or has the keys no more, and nothing was done.
    """
    if not is_cluster(redis):
        async with redis.pipeline(transaction=True) as together:
            for command in commands:
                together.execute_command(*command)
            return list(await together.execute(raise_on_error=False))
    cluster: Any = redis
    node = await node_of(redis, key)
    async with cluster.pipeline(transaction=False) as together:
        for command in (("MULTI",), *commands, ("EXEC",)):
            together.execute_command(*command, **node.only)
        *queued, answers = await together.execute(raise_on_error=False, allow_redirections=False)
    for error in (*queued, answers):
        if isinstance(error, RedisError):
            look_anew(redis)
            raise error
    callbacks = cluster.response_callbacks
    return [
        answer if isinstance(answer, RedisError) else callbacks.get(command[0], _plain)(answer)
        for command, answer in zip(commands, answers, strict=True)
    ]


def _plain(answer: Any) -> Any:
    return answer

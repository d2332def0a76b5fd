"""How the ledger reaches Redis. redis-py repeats a command whose answer was lost, up to ten times by default:
an EVALSHA that moved credits would move them again. Here nothing repeats a command but the batcher, which
knows how.
"""

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

ANSWER_SECONDS = 2.0


def connect(url: str, *, answer_seconds: float = ANSWER_SECONDS) -> Redis:
    """A client on one connection (`rediss://` and credentials as the URL says), opened by its first command.

    Args:
        url: Where, with credentials.
        answer_seconds: How long a command may take before its outcome counts as unknown.
    """
    return Redis.from_url(
        url,
        single_connection_client=True,
        protocol=2,
        retry=Retry(NoBackoff(), 0),
        socket_connect_timeout=answer_seconds,
        socket_timeout=answer_seconds,
    )

"""One call of the script: what it carries, and what Redis' errors say about it."""

from msgspec import Struct
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from app.ledger.errors import FULL, NOT_PERSISTING, READ_ONLY, TOO_FEW_REPLICAS
from app.ledger.operations import Operation

UNKNOWN = (RedisConnectionError, RedisTimeoutError, OSError)
"""After these nobody knows whether the call has run."""

WAIT = frozenset({"LOADING", "BUSY", "TRYAGAIN", "CLUSTERDOWN"})
"""Redis can do nothing for the moment. Nothing of the call has run."""

SCRIPT_FAULT = frozenset({"ERR", "WRONGTYPE"})
"""The script came to an error. Nothing of the call was written."""

CAUSES = {
    "OOM": FULL,
    "MISCONF": NOT_PERSISTING,
    "READONLY": READ_ONLY,
    "NOREPLICAS": TOO_FEW_REPLICAS,
}
"""Why Redis takes no writes, by the word with which it says so. Nothing of the call has run."""


class Call(Struct, omit_defaults=True):
    """What travels to the script. `shards`: number and incarnation of each shard concerned. `atomic`: all of
    the operations are carried out, or none.
    """

    ledger: str
    server: str
    nonce: str
    number: int
    deadline_ms: int
    shards: list[tuple[int, int]]
    backlog_max: int
    backlog_bytes_max: int
    operations: list[Operation]
    atomic: bool = False


def code_of(error: RedisError) -> str:
    """The word with which Redis began its error (redis-py takes some of them off the text)."""
    return getattr(error, "status_code", None) or str(error).partition(" ")[0]

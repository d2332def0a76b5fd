"""API keys: made, listed, revoked, and recognised on every request.

A key reads `lk_<prefix>_<secret>`: the prefix is public and names it, the secret has 256 random bits.
PostgreSQL keeps the SHA-256 of the whole. Nobody guesses 256 bits, so a slow hash would only slow us.
"""

import hashlib
import re
import secrets
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from asyncpg import UniqueViolationError

from app.access import SCOPES
from app.api_keys import ApiKey, KeyNotFound, KeyRefused
from persistence.pool import Pool, answering

__all__ = ["ApiKey", "KeyNotFound", "KeyRefused", "PostgresApiKeys", "create", "listed", "revoke"]

_LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SECRET_LETTERS = 43  # 62^43 > 2^256
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_TOKEN = re.compile(rb"lk_[a-z0-9]{8}_[0-9A-Za-z]{43}")
_ACCOUNT = re.compile(r"[A-Za-z0-9._:@+-]{1,128}", re.ASCII)


def hashed(token: bytes) -> bytes:
    """What PostgreSQL keeps of a token (32 bytes)."""
    return hashlib.sha256(token).digest()


def well_formed(token: bytes) -> bool:
    """Whether this can be a key at all; what cannot is refused without asking anybody."""
    return _TOKEN.fullmatch(token) is not None


CREATE = """
INSERT INTO api_keys (name, prefix, hash, scopes, account, expires_at) VALUES ($1, $2, $3, $4, $5, $6)
"""


async def create(
    pool: Pool,
    name: str,
    scopes: Iterable[str],
    *,
    account: str | None = None,
    expires_at: datetime | None = None,
) -> str:
    """Make a key and return its token, which nobody can show again.

    Args:
        pool: Where the key is kept.
        name: 1 to 64 of `A-Za-z0-9._-`, unique among the keys in force; the journal names it as `key:<name>`.
        scopes: One or more of `app.access.SCOPES`.
        account: The only account that the key may touch; `None`: all.
        expires_at: With a time zone, in the future; `None`: never.

    Raises:
        KeyRefused: A wrong name, scope, account or expiry, or a name in use.
        BackingUnavailable: PostgreSQL is away; the key may have been made, and its token is lost.
    """
    wanted = sorted(set(scopes))
    if not _NAME.fullmatch(name):
        raise KeyRefused(f"name {name!r}: 1 to 64 letters, digits, dots, underscores and hyphens")
    if not wanted or not SCOPES.issuperset(wanted):
        raise KeyRefused(f"scopes {', '.join(wanted) or 'none'}: one or more of {', '.join(sorted(SCOPES))}")
    if account is not None and not _ACCOUNT.fullmatch(account):
        raise KeyRefused(f"account {account!r}: 1 to 128 letters, digits and . _ : @ + -")
    if expires_at is not None and expires_at <= datetime.now(UTC):
        raise KeyRefused(f"expiry {expires_at.isoformat()}: not in the future")
    prefix = "".join(secrets.choice(_LETTERS[:10] + _LETTERS[36:]) for _ in range(8))
    token = f"lk_{prefix}_" + "".join(secrets.choice(_LETTERS) for _ in range(_SECRET_LETTERS))
    async with answering(pool) as connection:
        try:
            await connection.execute(
                CREATE, name, prefix, hashed(token.encode()), wanted, account, expires_at
            )
        except UniqueViolationError as error:
            raise KeyRefused(f"name {name!r}: a key in force has it") from error
    return token


LIST = """
SELECT id::text, name, prefix, scopes, account, created_at, expires_at, last_used_at, revoked_at
FROM api_keys WHERE $1 OR revoked_at IS NULL
ORDER BY created_at, id LIMIT 10000
"""


async def listed(pool: Pool, *, revoked: bool = False) -> list[ApiKey]:
    """The keys, oldest first (at most 10,000), without anything secret; `revoked`: also those."""
    async with answering(pool) as connection:
        return [ApiKey(**row) for row in await connection.fetch(LIST, revoked)]


REVOKE = """
UPDATE api_keys SET revoked_at = now()
WHERE revoked_at IS NULL AND (name = $1 OR prefix = $1 OR id::text = $1)
RETURNING name
"""


async def revoke(pool: Pool, key: str) -> list[str]:
    """Revoke by name, prefix or id and return the names. Every process knows within 5 s.

    Raises:
        KeyNotFound: No key in force is called so; a second revocation ends here too.
    """
    async with answering(pool) as connection:
        rows = await connection.fetch(REVOKE, key)
    if not rows:
        raise KeyNotFound(f"no key in force has the name, prefix or id {key!r}")
    return [row["name"] for row in rows]


class PostgresApiKeys:
    """`app.api_keys.ApiKeys` over a pool."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def listed(self) -> list[ApiKey]:
        return await listed(self._pool)

    async def create(
        self, name: str, scopes: Sequence[str], account: str | None, expires_at: datetime | None
    ) -> str:
        return await create(self._pool, name, scopes, account=account, expires_at=expires_at)

    async def revoke(self, key: str) -> None:
        await revoke(self._pool, key)

"""Sessions of people who are signed in: a row each, found by the hash of the secret in a browser's cookie.

PostgreSQL is asked on every request, so that a session ends with its key, whichever process is asked. While
PostgreSQL is away those that this process has seen go on: operators need the pages then most.
"""

import hashlib
import secrets
from datetime import UTC, datetime

from asyncpg import Record

from app.ledger.backing import BackingUnavailable
from app.operators import NoOperator, Session
from persistence.api_keys import hashed, well_formed
from persistence.pool import Pool, answering

HOURS = 12
ANSWER_SECONDS = 2.0
SEEN_MAX = 1_000
SECRET_BYTES = 32


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()


def _session(row: Record) -> Session:
    return Session(row["name"], row["prefix"], row["expires_at"])


class PostgresSessions:
    """`app.operators.Sessions`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._seen: dict[bytes, Session] = {}

    KEY = """
    SELECT id, name, scopes, account FROM api_keys
    WHERE hash = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
    """

    # A session never outlives its key. Those that are over are cleared away by those that begin.
    OPEN = """
    WITH over AS (DELETE FROM operator_sessions WHERE expires_at < now()),
    opened AS (
      INSERT INTO operator_sessions (hash, key, expires_at)
      SELECT $1, id, least(now() + make_interval(hours => $3), expires_at) FROM api_keys WHERE id = $2
      RETURNING key, expires_at)
    SELECT o.expires_at, k.name, k.prefix FROM opened o JOIN api_keys k ON k.id = o.key
    """

    async def sign_in(self, token: bytes) -> tuple[str, Session]:
        if not well_formed(token):
            raise NoOperator("This is not an API key: one begins with lk_ and has 55 characters.")
        async with answering(self._pool, ANSWER_SECONDS) as connection:
            key = await connection.fetchrow(self.KEY, hashed(token))
            if key is None:
                raise NoOperator("This key is not in force: it was revoked, has expired, or never was.")
            if "operate" not in key["scopes"]:
                raise NoOperator(
                    f"The key {key['name']} does not have the scope operate. Make one that has it:"
                    " lastro keys create --name you --scope operate"
                )
            if key["account"] is not None:
                raise NoOperator(
                    f"The key {key['name']} is for the account {key['account']} only; these pages show all."
                )
            secret = secrets.token_urlsafe(SECRET_BYTES)
            (opened,) = await connection.fetch(self.OPEN, _hash(secret), key["id"], HOURS)
            session = _session(opened)
        self._remember(_hash(secret), session)
        return secret, session

    FIND = """
    SELECT s.expires_at, k.name, k.prefix FROM operator_sessions s JOIN api_keys k ON k.id = s.key
    WHERE s.hash = $1 AND s.expires_at > now()
      AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now())
    """

    async def find(self, secret: str) -> Session | None:
        digest = _hash(secret)
        try:
            async with answering(self._pool, ANSWER_SECONDS) as connection:
                row = await connection.fetchrow(self.FIND, digest)
        except BackingUnavailable:
            seen = self._seen.get(digest)
            if seen is None or seen.expires_at <= datetime.now(UTC):
                raise
            return seen
        if row is None:
            self._seen.pop(digest, None)
            return None
        return self._remember(digest, _session(row))

    CLOSE = "DELETE FROM operator_sessions WHERE hash = $1"

    async def sign_out(self, secret: str) -> None:
        digest = _hash(secret)
        self._seen.pop(digest, None)
        async with answering(self._pool, ANSWER_SECONDS) as connection:
            await connection.execute(self.CLOSE, digest)

    def _remember(self, digest: bytes, session: Session) -> Session:
        self._seen[digest] = session
        if len(self._seen) > SEEN_MAX:
            del self._seen[next(iter(self._seen))]
        return session

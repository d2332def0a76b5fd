"""API keys as operators see them, and the protocol through which the dashboard makes and revokes them. `main`
plugs in PostgreSQL.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from msgspec import Struct


class KeyRefused(ValueError):
    """What was asked for a new key cannot be; the text names it."""


class KeyNotFound(LookupError):
    """No key in force has this name, prefix or id."""


class ApiKey(Struct, frozen=True):
    """A key as a list shows it. `last_used_at` is up to a minute behind."""

    id: str
    name: str
    prefix: str
    scopes: list[str]
    account: str | None
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None


class ApiKeys(Protocol):
    """Every method raises `app.ledger.backing.BackingUnavailable` when PostgreSQL is away."""

    async def listed(self) -> list[ApiKey]:
        """Those in force, oldest first."""
        ...

    async def create(
        self, name: str, scopes: Sequence[str], account: str | None, expires_at: datetime | None
    ) -> str:
        """Make a key and return its token, which nobody can show again.

        Raises:
            KeyRefused: Name, scopes, account or expiry cannot be.
        """
        ...

    async def revoke(self, key: str) -> None:
        """Revoke by id. Every process knows within 5 s.

        Raises:
            KeyNotFound: None in force has it.
        """
        ...

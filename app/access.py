"""Who asks, and what they may do. The doors of HTTP ask `Keys`; `main` plugs in PostgreSQL's keyring."""

from collections.abc import Iterable
from typing import Literal, Protocol, get_args

from msgspec import Struct

Scope = Literal["spend", "grant", "read", "operate"]
SCOPES: frozenset[str] = frozenset(get_args(Scope))


class Principal(Struct, frozen=True):
    """Who asks. `scopes` with what they include: `spend` and `operate` include `read`, `grant` does not.

    `account`: the only account that this principal may touch, `None` for all. `by` is what the journal keeps.
    """

    name: str
    scopes: frozenset[str]
    account: str | None = None
    kind: Literal["key", "user"] = "key"

    @property
    def by(self) -> str:
        return f"{self.kind}:{self.name}"


class Keys(Protocol):
    """What is asked on every request: `known` first, `authenticate` only when it answers `None`."""

    def known(self, authorization: bytes) -> Principal | None:
        """The principal of an `Authorization` header seen before: one dict look-up, no I/O."""
        ...

    async def authenticate(self, authorization: bytes) -> Principal | None:
        """The principal of an `Authorization` header; `None`: not a key, revoked, or out of time.

        Raises:
            app.ledger.backing.BackingUnavailable: Only PostgreSQL can tell and it is away (503, not 401).
        """
        ...


def implied(scopes: Iterable[str]) -> frozenset[str]:
    """The scopes with what they include."""
    given = frozenset(scopes)
    return given | {"read"} if given & {"spend", "operate"} else given

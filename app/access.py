"""Who asks, and what they may do. The doors of HTTP ask `Keys`; `main` plugs in PostgreSQL's keyring, and
where there are any, users' tokens.
"""

from collections.abc import Iterable
from typing import Literal, Protocol, get_args

from msgspec import Struct

Scope = Literal["spend", "grant", "read", "operate"]
SCOPES: frozenset[str] = frozenset(get_args(Scope))

Verb = Literal["deduct", "reserve", "extend", "bind", "quote"]
VERBS: frozenset[str] = frozenset(get_args(Verb))
"""What users may be allowed beside reading. Never to make credits, and never to end a reservation: who may
cancel has the work for nothing, and so has who may confirm, with an amount of 0.
"""


class Principal(Struct, frozen=True):
    """Who asks. `by` is what the journal keeps.

    `scopes`: of a key with what they include (`spend` and `operate` include `read`, `grant` does not); of a
    user `read` and the verbs that users may call. `accounts`: the only ones that this principal may touch, at
    least one; `None` for all.
    """

    name: str
    scopes: frozenset[str]
    accounts: frozenset[str] | None = None
    kind: Literal["key", "user"] = "key"

    @property
    def by(self) -> str:
        return f"{self.kind}:{self.name}"

    def may(self, scope: str, verb: str) -> bool:
        """Whether it may call `verb`, for which a key needs `scope`."""
        return (scope if self.kind == "key" else verb) in self.scopes


class Keys(Protocol):
    """What is asked on every request: `known` first, `authenticate` only when it answers `None`."""

    def known(self, authorization: bytes) -> Principal | None:
        """The principal of an `Authorization` header seen before: one dict look-up, no I/O."""
        ...

    async def authenticate(self, authorization: bytes) -> Principal | None:
        """The principal of an `Authorization` header; `None`: nobody's, revoked, or out of time.

        Raises:
            app.ledger.backing.BackingUnavailable: Only PostgreSQL can tell and it is away (503, not 401).
            app.ledger.errors.LedgerUnavailable: Only who issues users' tokens can tell, and is away.
        """
        ...


class Either:
    """Two kinds of credentials, of which none can be taken for the other."""

    def __init__(self, first: Keys, second: Keys) -> None:
        self._first = first
        self._second = second

    def known(self, authorization: bytes) -> Principal | None:
        return self._first.known(authorization) or self._second.known(authorization)

    async def authenticate(self, authorization: bytes) -> Principal | None:
        return await self._first.authenticate(authorization) or await self._second.authenticate(authorization)


def implied(scopes: Iterable[str]) -> frozenset[str]:
    """The scopes of a key with what they include."""
    given = frozenset(scopes)
    return given | {"read"} if given & {"spend", "operate"} else given

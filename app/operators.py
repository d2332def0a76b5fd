"""People who operate the ledger through pages: who is signed in, and what each did by hand. The dashboard
asks these protocols; `main` plugs in PostgreSQL.
"""

from datetime import datetime
from typing import Literal, Protocol

from msgspec import Struct

Act = Literal[
    "confirm", "cancel", "extend", "adjust", "freeze", "activate", "reconcile", "replay", "retry", "make key",
    "revoke key",
]  # fmt: skip


class Session(Struct, frozen=True):
    """Somebody who is signed in, with the API key `name`, until `expires_at` or the key's own end."""

    name: str
    prefix: str
    expires_at: datetime

    @property
    def by(self) -> str:
        """Who does it, as the journal keeps it."""
        return f"dashboard:{self.name}"


class NoOperator(Exception):
    """This key opens no session; the text says why, for whoever has the key."""


class Sessions(Protocol):
    """Every method raises `app.ledger.backing.BackingUnavailable` when PostgreSQL is away, but for `find` of
    a session that this process has seen before.
    """

    async def sign_in(self, token: bytes) -> tuple[str, Session]:
        """Open a session with an API key. Returns its secret, of which only the hash is kept.

        Raises:
            NoOperator: It is no key in force, does not have the scope `operate`, or is for one account only.
        """
        ...

    async def find(self, secret: str) -> Session | None:
        """The session of a secret; `None`: there is none any more, or its key was revoked."""
        ...

    async def sign_out(self, secret: str) -> None:
        """End it."""
        ...


class Asked(Struct, frozen=True, kw_only=True):
    """What somebody does by hand. `key`: of the form, so that the same form sent twice is done once.

    `account`, `reservation` and `about` (anything else, as people call it) say to what; `detail` with what,
    such as an amount.
    """

    key: str
    act: Act
    by: str
    reason: str
    account: str | None = None
    reservation: str | None = None
    about: str | None = None
    detail: str = ""


class Action(Struct, frozen=True, kw_only=True):
    """A row of the audit. `outcome` `asked`: it was begun, and nobody noted how it ended: the process was
    killed, or the ledger did not answer. `told`: the transaction, or why not.
    """

    id: int
    at: datetime
    act: Act
    by: str
    reason: str | None
    account: str | None
    reservation: str | None
    about: str | None
    detail: str
    outcome: Literal["asked", "done", "refused"]
    told: str | None


class ActionFilter(Struct, frozen=True, kw_only=True):
    """Which actions: all that is given must hold."""

    account: str | None = None
    reservation: str | None = None
    about: str | None = None


class Begun(Struct, frozen=True):
    """The row of an action. `ended`: the same form did it before, and it is not done again."""

    id: int
    ended: bool


class OtherAction(Exception):
    """The key of the form was sent before with something else in it, which the audit would not know of."""


class Actions(Protocol):
    """The audit. Every method raises `app.ledger.backing.BackingUnavailable` when PostgreSQL is away: then
    nothing is done by hand.
    """

    async def begin(self, asked: Asked) -> Begun:
        """Note what is going to be done, before it is; the same row for the same form.

        Raises:
            OtherAction
        """
        ...

    async def end(self, action: int, outcome: Literal["done", "refused"], told: str) -> None:
        """Note how it ended."""
        ...

    async def listed(self, which: ActionFilter, limit: int) -> list[Action]:
        """The latest, newest first."""
        ...


class Operators(Protocol):
    """All that the dashboard asks about its people."""

    @property
    def sessions(self) -> Sessions:
        """Who is signed in."""
        ...

    @property
    def actions(self) -> Actions:
        """What they did."""
        ...

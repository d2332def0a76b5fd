"""What comes in at the door of webhooks, and what it means once it is proven and read."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from msgspec import Struct

Outcome = Literal["succeeded", "failed", "progress"]


class Unverified(Exception):
    """Nobody can tell who sent it. The text says why, to the inbox and the log; the sender learns nothing."""


class Unreadable(ValueError):
    """It is genuine, and not understood. The text names the field, and what would be right."""


class Delivery(NamedTuple):
    """One request as it came.

    Args:
        headers: By their names in lower case; of those in `duplicated` any one.
        body: The raw bytes, over which signatures are made.
        duplicated: Names of the headers that came more than once.
    """

    headers: Mapping[str, str]
    body: bytes
    duplicated: frozenset[str] = frozenset()

    def header(self, name: str) -> str:
        """Its value, in ASCII. Raises `Unverified` where it is missing, empty, given twice or not ASCII."""
        value = self.headers.get(name)
        if not value:
            raise Unverified(f"no header {name}")
        if name in self.duplicated:
            raise Unverified(f"the header {name} is given twice")
        if not value.isascii():
            raise Unverified(f"the header {name} is not ASCII")
        return value


class Event(Struct, frozen=True, kw_only=True):
    """What a provider says about one task.

    Args:
        provider: Its name among `PROVIDERS`.
        task: The provider's id of the task, 1 to 255 printable ASCII characters. Neither a task nor a
            reservation is named only by what is noted and no more (`progress`).
        reservation: Our own id in lower case, where the payload names it.
        outcome: What it means for the credits.
        status: The provider's own word.
        amount: Credits to be confirmed, where the sender knows them (`generic`).
        reason: Why it failed: 1 to 500 characters without control characters.
        payload: The decoded JSON. Numbers with a point are `Decimal`, at most 400 digits from it.
    """

    provider: str
    outcome: Outcome
    status: str
    task: str | None = None
    reservation: str | None = None
    amount: int | None = None
    reason: str | None = None
    payload: Any = None

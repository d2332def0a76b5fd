"""What is open, counted; and the protocol through which metrics ask. `main` plugs in PostgreSQL."""

from collections.abc import Mapping
from typing import Protocol

from msgspec import Struct


class Open(Struct, frozen=True):
    """Reservations that hold credits; webhooks of the inbox that are not settled, by status; deliveries of
    outgoing events that wait or were given up, by state.
    """

    reservations: int
    webhooks: Mapping[str, int]
    events: Mapping[str, int]


class Opened(Protocol):
    """Counts."""

    async def look(self) -> Open:
        """As it is now.

        Raises:
            app.ledger.backing.BackingUnavailable: PostgreSQL is away.
        """
        ...

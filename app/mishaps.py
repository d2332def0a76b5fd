"""What goes wrong between callers and the ledger without leaving an entry, counted for health and alerts; and
the protocol through which the doors count it. `main` plugs in who keeps it.
"""

from typing import Literal, Protocol

Mishap = Literal["reservation_not_found", "confirm_conflict"]
"""`reservation_not_found`: somebody wanted to end a reservation, and there is none of that name.
`confirm_conflict`: a confirm named another amount than the one that it repeats.
"""


class Mishaps(Protocol):
    """Counts."""

    def note(self, what: Mishap, about: str) -> None:
        """One more. `about`: which reservation, for whoever looks for the cause; at most 300 characters of it
        are kept.
        """
        ...

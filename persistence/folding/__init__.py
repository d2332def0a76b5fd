"""What entries add up to, in plain Python: accounts with their lots, reservations, and what was given back.

The rules by which lots come and go are those of `lua/parts/lots.lua`; a test holds the two against each
other, row by row. An entry that does not follow from what came before it is not folded in: its version must
be the next one, its legs must lead from the balance before it to the balance that it names, and come to the
amount that it names.
"""

from persistence.folding.accounts import (
    LAST_PRIORITY,
    LOTS_MAX,
    OVERDRAFT,
    PRIORITY,
    Account,
    Lot,
    Status,
    spending_order,
)
from persistence.folding.proof import Contradiction, takes_a_lost_place
from persistence.folding.refunds import Original, give_back
from persistence.folding.reservations import Reservation, still_held

__all__ = [
    "LAST_PRIORITY",
    "LOTS_MAX",
    "OVERDRAFT",
    "PRIORITY",
    "Account",
    "Contradiction",
    "Lot",
    "Original",
    "Reservation",
    "Status",
    "give_back",
    "spending_order",
    "still_held",
    "takes_a_lost_place",
]

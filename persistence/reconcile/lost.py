"""What is lost of a shard, and what Redis had just before the first entry that its stream still has."""

from msgspec import Struct

from app.ledger.replies import Account, Reservation


class NotAdoptable(Exception):
    """What Redis has does not go on from what PostgreSQL has; the text says why. Nothing was written."""


class Loss(Struct, frozen=True):
    """What PostgreSQL and Redis' stream lack of a shard: `first` to `last`; Redis has `sequence`."""

    shard: int
    first: int
    last: int
    sequence: int

    @property
    def sentence(self) -> str:
        return (
            f"shard {self.shard}: entries {self.first} to {self.last} are lost in PostgreSQL, and Redis' "
            f"stream no longer has them; it goes on to {self.sequence}."
        )


class Then(Struct):
    """A shard of Redis just before entry `first`. `bytes`: of the entries from there on. `refunded`: how much
    of which transaction Redis remembers to have been given back.

    `link` and `at_ms` are those of the call before, as far as anybody still knows. What an entry has changed
    does not say what it was before: `unsure` are the settings of which account, and the deadline or the task
    of which reservation, that were changed from there on. `owed`: how much an account owed at most until what
    it may owe was changed.
    """

    first: int
    link: str
    at_ms: int
    bytes: int
    accounts: dict[str, Account]
    reservations: dict[str, Reservation]
    refunded: dict[str, int] = {}
    unsure: set[tuple[str, str]] = set()
    owed: dict[str, int] = {}

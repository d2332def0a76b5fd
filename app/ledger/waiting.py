"""The queue before the script: what came first goes first, and an atomic group travels alone and whole."""

from collections import deque
from collections.abc import Sequence

from app.ledger.tickets import Ticket, fail


class Waiting(deque[Ticket]):
    """Tickets in the order of their calls. Those of an atomic group stand together."""

    def __init__(self) -> None:
        super().__init__()
        self._atomic = 0

    def join(self, tickets: Sequence[Ticket]) -> None:
        """A group takes its place at the end."""
        self.extend(tickets)
        self._atomic += bool(tickets) and tickets[0].atomic is not None

    def put_back(self, tickets: Sequence[Ticket]) -> None:
        """What has to travel again goes to the front, in its order."""
        self.extendleft(reversed(tickets))
        self._atomic += bool(tickets) and tickets[0].atomic is not None

    def fail(self, why: str) -> None:
        """Tell all of them that the ledger is unavailable; then nobody waits."""
        fail(self, why)
        self.clear()
        self._atomic = 0

    def take(self, count_max: int) -> list[Ticket]:
        """What travels in the next call. Somebody must be waiting."""
        if not self._atomic:
            return [self.popleft() for _ in range(min(len(self), count_max))]
        group = self[0].atomic
        if group is not None:
            self._atomic -= 1
        tickets: list[Ticket] = []
        while self and self[0].atomic is group and (group is not None or len(tickets) < count_max):
            tickets.append(self.popleft())
        return tickets

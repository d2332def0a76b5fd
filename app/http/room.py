"""How many long answers, and long bodies of nobody knows whom, there may be at a time."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from app.http.problems import Problem

LONG_ANSWERS_MAX = 16
LONG_ANSWERS_OF_ONE_MAX = 4
LONG_DELIVERIES_MAX = 64


class Room:
    """For `LONG_ANSWERS_MAX` in a process, and `LONG_ANSWERS_OF_ONE_MAX` of one caller; and for
    `LONG_DELIVERIES_MAX` long deliveries, which can only be proven when they have been read.
    """

    def __init__(self) -> None:
        self._taken: Counter[str] = Counter()
        self._deliveries = 0

    @contextmanager
    def of_delivery(self) -> Iterator[None]:
        """Room for one more long delivery.

        Raises:
            Problem: There is none (`overloaded`).
        """
        if self._deliveries >= LONG_DELIVERIES_MAX:
            raise Problem("overloaded", {"cause": "long_deliveries"})
        self._deliveries += 1
        try:
            yield
        finally:
            self._deliveries -= 1

    @contextmanager
    def of(self, caller: str) -> Iterator[None]:
        """Room for one more.

        Raises:
            Problem: There is none (`overloaded`).
        """
        if self._taken.total() >= LONG_ANSWERS_MAX or self._taken[caller] >= LONG_ANSWERS_OF_ONE_MAX:
            raise Problem("overloaded", {"cause": "long_answers"})
        self._taken[caller] += 1
        try:
            yield
        finally:
            self._taken[caller] -= 1
            if not self._taken[caller]:
                del self._taken[caller]

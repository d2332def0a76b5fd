"""How many different accounts were active in a time, exactly, without looking at the accounts.

A quarter of an hour in which an account was active is the end of a pause, which began with the one before it;
of each pause its length is known, and of its beginning and its end when they were. In a time of length L from
`a` to `b` each account that was active is counted once, at its first quarter there: the pause that ends
with it began before `a`. Of pauses that are at least as long as L these are all that end there: they began
before `a`. Of shorter ones these are all that began before `a` and end at `a` or later: they end before `b`.
So nothing is needed but how many pauses of which length began and ended by when.

Lengths are kept in classes that end where steps have their lengths, so that a class is longer than a step or
shorter. A time of another length has one class that is both; its pauses are looked at one by one.
"""

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from math import inf
from typing import NamedTuple

from app.periods import QUARTER

_HOUR, _DAY = 4, 96

LIMITS: tuple[int, ...] = (
    _HOUR,
    *(days * _DAY + hours * _HOUR for days in (1, 7, 28, 29, 30, 31, 84, 365, 366) for hours in (-1, 0, 1)),
)
"""In quarters, rising: how long steps and the usual series are, also when clocks are changed in them. A pause
is of class n when n of them are not longer than it, and the first time is of the last class. They are part of
what is stored: whoever changes them has to count anew.
"""

FIRST = len(LIMITS) + 1

_AT_LEAST = (0, *LIMITS, inf)
_BELOW = (*LIMITS, inf, inf)
_LONGEST = 2**31 - 1


class Pauses(NamedTuple):
    """How many pauses of a class began and ended in a time."""

    step: int
    class_: int
    began: int
    ended: int


class Odd(NamedTuple):
    """Pauses that are to be looked at: those of at least and less than so many quarters."""

    at_least: int
    below: int


class Active(NamedTuple):
    """Accounts that were active in a time, but for those whose pause before it is `odd`."""

    accounts: int
    odd: Odd | None


def active(edges: Sequence[datetime], found: Sequence[Pauses]) -> list[Active]:
    """How many accounts were active between each two edges.

    Args:
        edges: Rising.
        found: `step` 0: before the first edge; n: from the n-th edge on, before the next one.
    """
    began: list[list[int]] = [[0] * (FIRST + 1) for _ in edges]
    ended: list[list[int]] = [[0] * (FIRST + 1) for _ in edges]
    for step, class_, began_there, ended_there in found:
        began[step][class_] += began_there
        ended[step][class_] += ended_there
    going_on = [0] * (FIRST + 1)
    answers = []
    for step, (start, end) in enumerate(pairwise(edges), start=1):
        going_on = [
            before + came - went
            for before, came, went in zip(going_on, began[step - 1], ended[step - 1], strict=True)
        ]
        answers.append(_active((end - start) / QUARTER, going_on, ended[step]))
    return answers


def _active(length: float, going_on: Sequence[int], ended: Sequence[int]) -> Active:
    accounts, odd = 0, None
    for class_ in range(FIRST + 1):
        if _AT_LEAST[class_] >= length:
            accounts += ended[class_]
        elif _BELOW[class_] <= length:
            accounts += going_on[class_]
        else:
            odd = Odd(int(_AT_LEAST[class_]), int(min(_BELOW[class_], _LONGEST)))
    return Active(accounts, odd)

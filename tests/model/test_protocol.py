"""The protocol between Redis, PostgreSQL, processes and workers, in every order in which things can happen.

With all rules on, no promise is broken in any world; with one rule off, the promise that it keeps is broken.
"""

from typing import NamedTuple

import pytest

from tests.model.explore import explore, told
from tests.model.world import Rules, Size

ALL = Rules()


class Without(NamedTuple):
    """A rule that is off, how much must happen, and what then goes wrong."""

    rules: Rules
    size: Size
    violation: str


WITHOUT = {
    "without lanes a repeated call applies twice": Without(
        ALL._replace(lane=False), Size((1,)), "APPLIED_TWICE"
    ),
    "an unknown call repeated under other terms applies twice": Without(
        ALL._replace(same_terms=False), Size((1,), sends_max=3, restores=1), "APPLIED_TWICE"
    ),
    "without the server's id a Redis that went back is served": Without(
        ALL._replace(server=False), Size((2,)), "SERVED_A_LIE"
    ),
    "without incarnations a batch from before the admission is committed after it": Without(
        ALL._replace(incarnation=False), Size((2,), sends_max=1), "SERVED_A_LIE"
    ),
    "without links a Redis that nobody recognises as another splices the journal": Without(
        ALL._replace(server=False, link=False), Size((2,)), "SPLICED"
    ),
    "ON CONFLICT and a lock on another connection move the cursor back": Without(
        ALL._replace(conditional_commit=False, lock_of_the_session=False),
        Size((2,), workers=2, rollbacks=0), "CURSOR_WENT_BACK",
    ),
    "ON CONFLICT hides that two histories disagree": Without(
        ALL._replace(conditional_commit=False, lock_of_the_session=False, incarnation=False, server=False),
        Size((2,), workers=2, sends_max=1), "CONFLICT_HIDDEN",
    ),
    "a batch that ends inside a call fences a healthy shard": Without(
        ALL._replace(whole_calls=False), Size((2,), rollbacks=0), "FENCED_WITHOUT_A_CAUSE"
    ),
    "a stream that is trimmed at once cannot feed a PostgreSQL that lost its tail": Without(
        ALL._replace(stream_is_kept=False), Size((1,), rollbacks=0, losses=1), "TRIMMED_UNJOURNALED"
    ),
}  # fmt: skip


@pytest.mark.parametrize("without", WITHOUT.values(), ids=WITHOUT)
def test_a_rule_that_is_off_is_missed(without: Without) -> None:
    explored = explore(without.rules, without.size, wanted=without.violation)
    assert without.violation in explored.violations, told(explored)


SIZES = {
    "calls of two operations, Redis goes back": Size((2,)),
    "Redis goes back twice": Size((1,), rollbacks=2),
    "a restore, cut off and begun again": Size((1,), sends_max=3, restores=1),
    "PostgreSQL loses its tail": Size((2,), rollbacks=0, losses=1),
    "two workers": Size((1,), workers=2),
    "two processes, Redis loses nothing": Size((1, 1), rollbacks=0, always=True),
}

NIGHTLY_SIZES = {
    "two processes, Redis goes back": Size((1, 1)),
    "two processes, calls of two operations": Size((2, 1), rollbacks=1, sends_max=1),
    "calls of three operations": Size((3,)),
    "Redis goes back three times": Size((1,), rollbacks=3, incarnations_max=6),
    "Redis goes back, and two restores": Size((2,), sends_max=3, restores=2, incarnations_max=6),
    "both go back": Size((1,), rollbacks=1, losses=1, restores=1),
    "two workers, calls of two operations": Size((2,), workers=2),
    "two processes, AOF always, another server": Size((1, 1), always=True),
}


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_no_promise_is_broken_in_any_world(size: Size) -> None:
    explored = explore(ALL, size)
    assert explored.violations == {}, told(explored)
    assert explored.complete


@pytest.mark.nightly("takes minutes")
@pytest.mark.parametrize("size", NIGHTLY_SIZES.values(), ids=NIGHTLY_SIZES)
def test_no_promise_is_broken_in_larger_worlds(size: Size) -> None:
    explored = explore(ALL, size, worlds_max=2_000_000)
    assert explored.violations == {}, told(explored)


def test_a_lock_on_another_connection_costs_work_but_breaks_nothing() -> None:
    explored = explore(ALL._replace(lock_of_the_session=False), Size((1,), workers=2))
    assert explored.violations == {}, told(explored)
    assert explored.complete


def test_links_alone_keep_the_journal_one_history() -> None:
    """Where a script cannot ask who the server is, what is served may be wrong, but the journal is not."""
    explored = explore(ALL._replace(server=False), Size((2,)), wanted="SPLICED")
    assert explored.violations == {}, told(explored)
    assert explored.complete


def test_from_every_world_the_journal_can_catch_up() -> None:
    """Without further faults, and with a restore where it is fenced, it becomes what Redis holds."""
    for size in (Size((2,), sends_max=1, restores=1), Size((1,), workers=2, restores=1)):
        explored = explore(ALL, size, stuck=True)
        assert explored.stuck == [], told(explored)
        assert explored.complete

"""Walks through every world that can be reached, breadth first: a trace to a violation is a shortest one."""

import gc
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import NamedTuple

from tests.model import admission, calls, faults, journal
from tests.model.world import Entries, Rules, Size, Step, World, first_world

CameFrom = dict[World, tuple[World, str] | None]
Action = Callable[[World, Rules, Size], Iterator[Step]]

ACTIONS: list[Action] = [
    calls.carries_a_call, calls.repeats_its_call, calls.gives_up_its_call,
    calls.is_refused_a_read, calls.a_copy_is_carried_out_late,
    admission.adopts_the_terms, admission.looks_under_the_lock, admission.commits_the_admission,
    admission.writes_the_admission, admission.restores,
    journal.reads_the_cursor, journal.reads_the_stream, journal.commits_the_batch, journal.trims_behind,
]  # fmt: skip
FAULTS: list[Action] = [
    faults.becomes_durable, faults.redis_goes_back, faults.the_journal_reaches_the_standby,
    faults.postgres_loses_its_tail, faults.a_worker_loses_its_lock,
]  # fmt: skip


class Exploration(NamedTuple):
    """What was found: the shortest trace to each violation. `complete`: there are no other worlds.

    `stuck`: traces to worlds from which, without further faults, the journal never again equals Redis.
    """

    worlds: int
    complete: bool
    violations: dict[str, list[str]]
    stuck: list[list[str]]


def violations(world: World, size: Size) -> set[str]:
    """The promises that do not hold in a world, by name."""
    found = set(world.broken)
    rows, entries = world.postgres.rows, world.redis.entries
    if any(twice(history) for history in (rows, entries)):
        found.add("APPLIED_TWICE")
    if not one_history(rows):
        found.add("SPLICED")
    if world.postgres.fenced and not world.rollbacks and not world.losses:
        found.add("FENCED_WITHOUT_A_CAUSE")
    if size.always and not world.postgres.fenced:
        kept = {entry.operation for entry in rows + entries}
        if world.answered - kept:
            found.add("ACKNOWLEDGED_LOST")
    return found


def twice(history: Entries) -> bool:
    return len({entry.operation for entry in history}) < len(history)


def one_history(rows: Entries) -> bool:
    """Whether each row really stood behind the one before it. Nobody in the model can see that."""
    if rows and rows[0].after is not None:
        return False
    return all(after.after == (before.execution, before.operation) for before, after in pairwise(rows))


def steps(world: World, rules: Rules, size: Size, actions: list[Action]) -> Iterator[Step]:
    for action in actions:
        for what, after in action(world, rules, size):
            durable = after.redis if size.always else after.durable
            standby = after.standby if size.losses else after.postgres
            yield what, after._replace(durable=durable, standby=standby)


def explore(
    rules: Rules, size: Size, *, wanted: str | None = None, worlds_max: int = 3_000_000, stuck: bool = False
) -> Exploration:
    """Walk through all worlds; what violates a promise is not gone on from.

    Args:
        rules: What protects the ledger.
        size: How much may happen.
        wanted: Look for this violation only, and stop when it is found.
        worlds_max: Where to stop at the latest.
        stuck: Look for dead ends too, which takes several times the memory.
    """
    first = first_world(size)
    came_from: CameFrom = {first: None}
    before: dict[World, list[World]] = {}
    found: dict[str, list[str]] = {}
    queue = deque([first])
    with no_collector():
        while queue and len(came_from) < worlds_max and wanted not in found:
            world = queue.popleft()
            broken = {name for name in violations(world, size) if wanted in {None, name}}
            for name in broken - found.keys():
                found[name] = trace(came_from, world)
            if broken:
                continue
            for actions in (ACTIONS, FAULTS):
                for what, after in steps(world, rules, size, actions):
                    if stuck and actions is ACTIONS:
                        before.setdefault(after, []).append(world)
                    if after not in came_from:
                        came_from[after] = (world, what)
                        queue.append(after)
        ends = dead_ends(came_from, before) if stuck else []
    return Exploration(len(came_from), not queue, found, [trace(came_from, end) for end in ends[:3]])


@contextmanager
def no_collector() -> Iterator[None]:
    """Millions of tuples without a cycle among them: looking for cycles would take most of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def dead_ends(came_from: CameFrom, before: dict[World, list[World]]) -> list[World]:
    """Worlds that cannot reach one in which the journal is what Redis holds and nothing is fenced."""
    equal = [w for w in came_from if w.postgres.rows == w.redis.entries and not w.redis.fenced]
    good = {world for world in equal if not world.postgres.fenced}
    queue = deque(good)
    while queue:
        for world in before.get(queue.popleft(), ()):
            if world not in good:
                good.add(world)
                queue.append(world)
    return [world for world in came_from if world not in good]


def trace(came_from: CameFrom, world: World) -> list[str]:
    """How a world came to be, in words."""
    words = []
    while (step := came_from[world]) is not None:
        world, what = step
        words.append(what)
    return words[::-1]


def told(exploration: Exploration) -> str:
    """All that was found, for people."""
    lines = [f"{exploration.worlds} worlds{'' if exploration.complete else ' and more'}"]
    for name, words in [*exploration.violations.items(), *(("STUCK", words) for words in exploration.stuck)]:
        lines += [f"{name} after {len(words)} steps:", *(f"  {n}. {what}" for n, what in enumerate(words, 1))]
    return "\n".join(lines)

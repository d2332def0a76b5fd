"""Row 3: the same deduct against PostgreSQL alone, behind the same application: rows that are locked, and one
guarded UPDATE.
"""

from collections.abc import Mapping

from tests.bench.bed import CREDITS, Bed, House, fetch, run
from tests.bench.figures import Line, Samples
from tests.bench.in_postgres import CONNECTIONS
from tests.bench.load import CLIENTS
from tests.bench.rows.http import Hits, mismatches
from tests.bench.sizes import Sizes, Told, in_turns

HOT, SPREAD = 4.0, 2.0
OURS = "lastro"
PEERS = ("locking", "locking-relaxed", "guarded", "guarded-relaxed", "guarded-bare")
NOTES = frozenset(PEERS) - {"guarded-bare"}
WHERE = {"hot": "one hot account", "spread": "1000 accounts"}

_MOVED = f"SELECT sum({CREDITS} - available)::bigint, sum(version)::bigint FROM bench_accounts"
_NOTED = "SELECT count(*) FROM bench_entries"


def measure(bed: Bed, sizes: Sizes, told: Told) -> list[Line]:
    told.say("setting up")
    house = bed.house(postgres=bed.own_postgres(max_connections="200"))  # each service has a pool
    services = {OURS: bed.api(house), **{name: bed.api(house, name) for name in PEERS}}
    hits = {
        (name, where): Hits(bed, house, service, hot=where == "hot")
        for where in WHERE
        for name, service in services.items()
    }
    turns = in_turns({f"{name}, {where}": each for (name, where), each in hits.items()}, sizes, told)
    found = dict(zip(hits, turns.values(), strict=True))
    told.say("counting again")
    wrong = mismatches(house, *(hits[OURS, where] for where in WHERE))
    wrong += miscounted(house, {name: [hits[name, where] for where in WHERE] for name in PEERS})
    errors = sum(each.errors for each in hits.values())
    return [
        *(_locked(row, where, found, must, wrong, errors) for row, where, must in
          (("3a", "hot", HOT), ("3b", "spread", SPREAD))),
        *(_guarded(where, found, wrong, errors) for where in WHERE),
    ]  # fmt: skip


def miscounted(house: House, peers: Mapping[str, list[Hits]]) -> int:
    """Deducts that PostgreSQL has and nobody was answered, or the reverse; entries likewise."""
    moved, versions = run(fetch(house.database_url, _MOVED))[0]
    (noted,) = run(fetch(house.database_url, _NOTED))[0]
    those = [each for hits in peers.values() for each in hits]
    noting = [each for name, hits in peers.items() if name in NOTES for each in hits]
    return _beyond(moved, those) + _beyond(versions, those) + _beyond(noted, noting)


def _beyond(count: int, hits: list[Hits]) -> int:
    """How far a count is from what was answered, and what may have been under way at the end of a load."""
    unanswered = count - sum(each.answered for each in hits)
    return max(0, -unanswered) + max(0, unanswered - sum(each.cut for each in hits))


Found = Mapping[tuple[str, str], Samples]


def _locked(row: str, where: str, found: Found, must: float, wrong: int, errors: int) -> Line:
    ours, its, relaxed = (found[name, where] for name in (OURS, "locking", "locking-relaxed"))
    times = ours.over(its)
    return Line(
        row,
        f"one deduct per HTTP request against SELECT ... FOR UPDATE in PostgreSQL, {WHERE[where]}",
        f"{times} times",
        f"≥ {must:g} times",
        times.median >= must and not wrong and not errors,
        f"{ours}/s against {its}/s (fsync and synchronous_commit on, a pool of {CONNECTIONS}, "
        f"{CLIENTS} clients); with synchronous_commit off {relaxed}/s, {ours.over(relaxed)} times; "
        f"{wrong} mismatches, {errors} errors",
    )


def _guarded(where: str, found: Found, wrong: int, errors: int) -> Line:
    names = (OURS, "guarded", "guarded-relaxed", "guarded-bare")
    ours, its, relaxed, bare = (found[name, where] for name in names)
    return Line(
        "3",
        f"one deduct per HTTP request against one guarded UPDATE in PostgreSQL, {WHERE[where]}",
        f"{ours.over(its)} times",
        reached=False if wrong or errors else None,
        beside=f"{ours}/s against {its}/s, each with its entry in the same statement; with "
        f"synchronous_commit off {relaxed}/s, {ours.over(relaxed)} times; durable but without any "
        f"entry {bare}/s, {ours.over(bare)} times; {wrong} mismatches, {errors} errors",
    )

"""Row 3: the same deduct against rows locked in PostgreSQL, behind the same application."""

from tests.bench.bed import Bed
from tests.bench.figures import Line, Samples
from tests.bench.load import CLIENTS
from tests.bench.locking import CONNECTIONS
from tests.bench.rows.http import Hits, mismatches
from tests.bench.sizes import Sizes, Told, in_turns

HOT, SPREAD = 4.0, 2.0


def measure(bed: Bed, sizes: Sizes, told: Told) -> list[Line]:
    told.say("setting up")
    house = bed.house()
    services = {
        "lastro": bed.api(house),
        "locking": bed.api(house, "locking"),
        "relaxed": bed.api(house, "locking-relaxed"),
    }
    things = {
        f"{name}, {where}": Hits(bed, house, service, hot=where == "hot")
        for where in ("hot", "spread")
        for name, service in services.items()
    }
    found = in_turns(things, sizes, told)
    told.say("counting again")
    wrong = mismatches(house, things["lastro, hot"], things["lastro, spread"])
    errors = sum(each.errors for each in things.values())
    return [
        _times("3a", "one hot account", "hot", found, HOT, wrong, errors),
        _times("3b", "1000 accounts", "spread", found, SPREAD, wrong, errors),
    ]


def _times(
    row: str, accounts: str, where: str, found: dict[str, Samples], must: float, wrong: int, errors: int
) -> Line:
    ours, its, relaxed = (found[f"{name}, {where}"] for name in ("lastro", "locking", "relaxed"))
    times = ours.over(its)
    return Line(
        row,
        f"one deduct per HTTP request against SELECT ... FOR UPDATE in PostgreSQL, {accounts}",
        f"{times} times",
        f"≥ {must:g} times",
        times.median >= must and not wrong and not errors,
        f"{ours}/s against {its}/s (fsync and synchronous_commit on, a pool of {CONNECTIONS}, "
        f"{CLIENTS} clients); with synchronous_commit off {relaxed}/s, {ours.over(relaxed)} times; "
        f"{wrong} mismatches, {errors} errors",
    )

"""Row 12: how long a lost Redis takes to be made again, and what it costs to prove that all is equal."""

import logging

from tests.bench.bed import Bed, run
from tests.bench.figures import Line
from tests.bench.filled import Size, fill
from tests.bench.remaking import Reconciled, Restored, reconciled, restored, verified
from tests.bench.sizes import Sizes, Told

SIZE = Size(100_000, 10)


def measure(bed: Bed, sizes: Sizes, told: Told) -> list[Line]:
    """Once each: they are long enough to be steady. `sizes` is not asked."""
    logging.getLogger("persistence").addHandler(logging.NullHandler())
    told.expect(5)
    told.say(f"making {SIZE.accounts:,} accounts")
    valkey, database_url = bed.born()
    run(fill(database_url, SIZE))
    told.step("restoring")
    lines = [_restored(restored(bed.folder, database_url, valkey, SIZE))]
    for name, full in (("as the job does it", False), ("with the sums of all entries", True)):
        told.step(f"reconciling {name}")
        lines.append(_reconciled(reconciled(database_url, valkey, SIZE, full=full), name))
    told.step("verifying")
    proved = verified(database_url)
    rate = f"{proved.rows / proved.seconds:,.0f} rows/s"
    lines.append(Line("12", "verify of its journal", rate, beside=f"{proved.seconds:.1f} s"))
    told.step("done")
    return lines


def _restored(made: Restored) -> Line:
    load, compare = made.seconds["load"], made.seconds["compare"]
    return Line(
        "12",
        f"restore of {SIZE.accounts:,} accounts and {SIZE.holds:,} open reservations into an empty Redis",
        f"{made.whole_seconds:.1f} s",
        beside=f"loaded in {load:.1f} s, {made.loaded / load:,.0f}/s; compared in {compare:.1f} s, "
        f"{made.loaded / compare:,.0f}/s; {made.redis_bytes / 2**20:,.0f} MiB in Redis afterwards",
    )


def _reconciled(made: Reconciled, name: str) -> Line:
    return Line(
        "12",
        f"reconcile of the same, {name}",
        f"{SIZE.accounts / made.seconds:,.0f} accounts/s",
        beside=f"{made.seconds:.1f} s; {made.looks:,} looks at Redis of {made.look_ms:.2f} ms each",
    )

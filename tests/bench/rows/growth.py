"""Row 10, and row 12 at full size: what becomes dearer when a ledger grows.

Ledgers of more and more accounts, each with ten journal rows an account and a tenth as many open
reservations. What is asked of the engine is measured in turns with the smallest of them; the rest stands on
each by itself.
"""

import logging
from collections.abc import Sequence
from typing import NamedTuple

from tests.bench import plot
from tests.bench.bed import Bed
from tests.bench.engine import IN_FLIGHT
from tests.bench.figures import Line, Samples, Section
from tests.bench.growing import Grown, Standing
from tests.bench.plot import Panel
from tests.bench.sizes import Sizes, Told, in_turns

SIZES = (1_000, 10_000, 100_000, 1_000_000)
FULL = SIZES[-1]
MUST = 0.90
KEYED = 10_000
PICTURE = "growth.svg"


class Found(NamedTuple):
    """What a size came to. `least_*`: of the smallest, measured in turns with it. p99 in milliseconds."""

    accounts: int
    holds: int
    rows: int
    standing: Standing
    rates: Samples
    least_rates: Samples
    p99s: Samples
    least_p99s: Samples
    keyed_bytes: float
    wrong: int

    @property
    def share(self) -> Samples:
        """Of the smallest one's rate."""
        return self.rates.over(self.least_rates)

    @property
    def p99_times(self) -> Samples:
        """As often as the smallest one's."""
        return self.p99s.over(self.least_p99s)

    @property
    def restore_seconds(self) -> float:
        return self.standing.restored.whole_seconds

    @property
    def reconcile_seconds(self) -> float:
        return self.standing.reconciled.seconds


def measure(bed: Bed, sizes: Sizes, told: Told) -> list[Line]:
    logging.getLogger("persistence").addHandler(logging.NullHandler())
    steps = [*(size for size in SIZES if size < sizes.growth_max), sizes.growth_max]
    return lines(grow(bed, steps, sizes, told))


def grow(bed: Bed, steps: Sequence[int], sizes: Sizes, told: Told) -> list[Found]:
    """One ledger after the other; the smallest stays."""
    least = Grown(bed, steps[0])
    found = []
    for accounts in steps:
        told.say(f"making {accounts:,} accounts")
        grown = least if accounts == steps[0] else Grown(bed, accounts)
        told.say(f"restoring, proving, asking {accounts:,} accounts")
        standing = grown.stand(sizes.rounds)
        rates, p99s = _loaded(least, grown, sizes, told)
        told.say(f"{accounts:,} accounts: with keys")
        keyed_bytes = grown.keyed(min(KEYED, accounts))
        told.say(f"counting {accounts:,} accounts again")
        found.append(
            Found(
                accounts, grown.size.holds, grown.size.rows, standing,
                rates[-1], rates[0], p99s[-1], p99s[0], keyed_bytes,
                grown.mismatches() if grown is not least else 0,
            )
        )  # fmt: skip
        if grown is not least:
            grown.drop()
    # It was loaded beside all others.
    return [found[0]._replace(wrong=least.mismatches()), *found[1:]]


def _loaded(
    least: Grown, grown: Grown, sizes: Sizes, told: Told
) -> tuple[Sequence[Samples], Sequence[Samples]]:
    """Rates and p99s, in turns: of the smallest, then of this one."""
    ledgers = {f"{each.size.accounts:,} accounts": each for each in (least, grown)}
    p99s: dict[str, list[float]] = {name: [] for name in ledgers}

    def measured(name: str, seconds: float) -> float:
        rate, p99_ms = ledgers[name].load(seconds)
        p99s[name].append(p99_ms)
        return rate

    rates = in_turns(
        {name: lambda seconds, name=name: measured(name, seconds) for name in ledgers}, sizes, told
    )
    return list(rates.values()), [Samples(each[1:]) for each in p99s.values()]  # the first warmed up


def lines(found: Sequence[Found]) -> list[Line]:
    """What is asked is asked of a million accounts; of fewer it is told what they came to."""
    least, most = found[0], found[-1]
    wrong = sum(each.wrong for each in found)
    command = f"python -m tests.bench --rows 10 --growth-max {most.accounts}"
    whole = most.accounts >= FULL
    reached = False if wrong else most.share.median >= MUST if whole else None
    standing, weights = most.standing, most.standing.weights
    made, slowest = standing.restored, standing.slowest
    return [
        Line(
            "10",
            f"engine, {IN_FLIGHT} in flight, single deducts from any of {most.accounts:,} accounts, against "
            f"{least.accounts:,}",
            most.share.percent,
            f"≥ {MUST:.0%} at {FULL:,} accounts",
            reached,
            f"{most.rates}/s against {most.least_rates}/s; p99 {most.p99s} ms against {most.least_p99s} ms; "
            f"{most.rows:,} journal rows, {most.holds:,} open reservations; {wrong} mismatches",
            command,
            _section(found),
        ),
        Line(
            "10",
            f"bytes of Redis at {most.accounts:,} accounts",
            f"{weights.account:,.0f} an account, {weights.reservation:,.0f} an open reservation, "
            f"{most.keyed_bytes:,.0f} more for an operation with a key",
            beside=f"the keys as Redis counts them; {made.redis_bytes / 2**20:,.0f} MiB altogether",
            command=command,
        ),
        Line(
            "12",
            f"restore of {most.accounts:,} accounts and {most.holds:,} open reservations of {most.rows:,} "
            "journal rows into an empty Redis",
            f"{made.whole_seconds:,.0f} s, {made.loaded / made.whole_seconds:,.0f}/s",
            beside=", ".join(f"{name} {seconds:.1f} s" for name, seconds in made.seconds.items())
            + f"; then an API process serves after {standing.starts} s; reconciled in "
            f"{standing.reconciled.seconds:.1f} s; verified in {standing.verified.seconds:.1f} s; the "
            f"slowest question of the dashboard, {slowest}, {standing.questions[slowest]} ms",
            command=command,
        ),
    ]  # fmt: skip


_FOREWORD = """\
What a ledger costs when it grows. Journals are written through COPY and Redis is filled by a restore; each
size is loaded in turns with the smallest. In the picture restore and reconcile are for each account, verify
is for each row: a level line is a cost that does not depend on the size."""

COLUMNS = (
    ("rate against the smallest", lambda each: f"{each.share.median:.0%}"),
    ("p99 against the smallest", lambda each: f"{each.p99s.median:.1f} / {each.least_p99s.median:.1f} ms"),
    ("bytes an account", lambda each: f"{each.standing.weights.account:,.0f}"),
    ("bytes an open reservation", lambda each: f"{each.standing.weights.reservation:,.0f}"),
    ("bytes a key", lambda each: f"{each.keyed_bytes:,.0f}"),
    ("API serves after", lambda each: f"{each.standing.starts.median:.1f} s"),
    ("restore", lambda each: f"{each.restore_seconds:,.1f} s"),
    ("reconcile", lambda each: f"{each.reconcile_seconds:,.1f} s"),
    ("verify", lambda each: f"{each.standing.verified.seconds:,.1f} s"),
    (
        "slowest question",
        lambda each: (
            f"{each.standing.questions[each.standing.slowest].median:.1f} ms ({each.standing.slowest})"
        ),
    ),
)


def _section(found: Sequence[Found]) -> Section:
    heads = ["accounts", "journal rows", "open reservations", *(name for name, _ in COLUMNS)]
    rows = [
        [f"{each.accounts:,}", f"{each.rows:,}", f"{each.holds:,}", *(show(each) for _, show in COLUMNS)]
        for each in found
    ]
    table = [heads, ["---"] * len(heads), *rows]
    text = "\n".join([
        _FOREWORD, "", *(f"| {' | '.join(row)} |" for row in table), "",
        f"![Cost against size](images/{PICTURE})",
    ])  # fmt: skip
    return Section("Growth", text, {PICTURE: picture(found)})


def picture(found: Sequence[Found]) -> str:
    """Cost against size."""
    panels = [
        Panel("A deduct", "times the smallest ledger's", [1 / each.share.median for each in found]),
        Panel("p99 of deducts", "times the smallest ledger's", [each.p99_times.median for each in found]),
        Panel("Redis, an account", "bytes", [each.standing.weights.account for each in found]),
        Panel("Redis, a reservation", "bytes", [each.standing.weights.reservation for each in found]),
        Panel("An API process serves", "after s", [each.standing.starts.median for each in found]),
        Panel("Slowest question", "ms", [_slowest_ms(each) for each in found]),
        Panel("Restore", "ms an account", [_each_ms(each, each.restore_seconds) for each in found]),
        Panel("Reconcile", "ms an account", [_each_ms(each, each.reconcile_seconds) for each in found]),
        Panel("Verify", "µs a row", [1e6 * each.standing.verified.seconds / each.rows for each in found]),
    ]
    return plot.draw("Cost against the number of accounts", [each.accounts for each in found], panels)


def _each_ms(found: Found, seconds: float) -> float:
    """Of each account."""
    return 1000 * seconds / found.accounts


def _slowest_ms(found: Found) -> float:
    return found.standing.questions[found.standing.slowest].median

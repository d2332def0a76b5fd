"""Row 2: one deduct per HTTP request, against the same without a ledger and against doing nothing at all."""

import importlib.util

from tests.bench.bed import Bed, House, Service
from tests.bench.figures import Line, Samples
from tests.bench.load import CLIENTS, deducts, load
from tests.bench.recount import Recount
from tests.bench.sizes import Sizes, Told, in_turns

INSTANT, STOCK = 0.55, 0.90


class Hits:
    """One service under load. What went wrong is added up over all its measurements.

    `cut`: requests that may have been under way when the load ended, which does not wait for them.
    """

    def __init__(
        self, bed: Bed, house: House, service: Service, clients: int = CLIENTS, hot: bool = False
    ) -> None:
        self._accounts = ("customer-0001",) if hot else ()
        self._bed = bed
        self._house = house
        self._service = service
        self._clients = clients
        self.answered = self.errors = self.cut = 0
        self.p99s: list[float] = []

    def __call__(self, seconds: float) -> float:
        what = deducts(self._accounts) if self._accounts else deducts()
        came_to = load(self._bed.folder, self._service.port, self._house.token, what, self._clients, seconds)
        self.answered += came_to.answered
        self.errors += came_to.errors
        self.cut += self._clients
        self.p99s.append(came_to.p99_ms)
        return came_to.rate


def mismatches(house: House, *hits: Hits, counted: int = 0) -> int:
    """Accounts that hold something else than their entries say; answers without an entry, and the reverse.

    `counted`: deducts that were answered otherwise.
    """
    recount = Recount(house.valkey.url)
    recount.read_on()
    unanswered = recount.kinds["deducted"] - counted - sum(each.answered for each in hits)
    wrong = recount.mismatches() + max(0, -unanswered) + max(0, unanswered - sum(each.cut for each in hits))
    recount.close()
    return wrong


def measure(bed: Bed, sizes: Sizes, told: Told) -> list[Line]:
    told.say("setting up")
    house = bed.house()
    ours, instant, stock = (Hits(bed, house, bed.api(house, app)) for app in (None, "instant", "stock"))
    things = {"lastro api": ours, "no ledger": instant, "stock handler": stock}
    other = None
    if importlib.util.find_spec("granian"):
        other = things["granian"] = Hits(bed, house, bed.api(house, "granian"))
    found = in_turns(things, sizes, told)
    told.say("counting again")
    wrong = mismatches(house, *(each for each in (ours, other) if each))
    errors = sum(each.errors for each in things.values())
    lines = [
        _share("2a", "the same handler, auth and shapes without the ledger", found, "no ledger", INSTANT),
        _share("2b", "a stock Litestar handler that does nothing", found, "stock handler", STOCK),
    ]
    lines = [_checked(line, wrong, errors) for line in lines]
    if other:
        rate = found["granian"]
        beside = f"{rate.over(found['lastro api']).percent} of uvicorn, in turns with it"
        lines.append(Line("2", "the same ledger under granian, one worker", f"{rate}/s", beside=beside))
    return lines


def _share(row: str, against: str, found: dict[str, Samples], name: str, must: float) -> Line:
    ours, its = found["lastro api"], found[name]
    share = ours.over(its)
    return Line(
        row,
        f"one deduct per HTTP request, {CLIENTS} connections, against {against}",
        share.percent,
        f"≥ {must:.0%}",
        share.median >= must,
        f"{ours}/s against {its}/s",
    )


def _checked(line: Line, wrong: int, errors: int) -> Line:
    return Line(
        line.row, line.measure, line.figure, line.must,
        bool(line.reached) and not wrong and not errors,
        f"{line.beside}; {wrong} mismatches, {errors} errors",
    )  # fmt: skip

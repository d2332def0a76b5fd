"""Row 2: one deduct per HTTP request, against the same without a ledger, against doing nothing at all, and
against our own script called once for each request.
"""

from importlib.util import find_spec

import msgspec

from tests.bench.bed import Bed, House, Service
from tests.bench.figures import Line, Samples
from tests.bench.load import CLIENTS, deducts, load
from tests.bench.recount import Recount
from tests.bench.sizes import Sizes, Told, in_turns

INSTANT, STOCK = 0.55, 0.90
OURS = "lastro api"


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


PEERS = {
    "unbatched": "one EVALSHA of the same script for each request, on a pool of connections, behind the same "
    "handler, auth and shapes",
    "bare": "a bare ASGI handler under the same uvicorn, which answers what was encoded beforehand",
    "granian": "the same ledger under granian, one worker",
}
"""What nothing is asked of: by the name of each in `tests.bench.serve`."""


def measure(bed: Bed, sizes: Sizes, told: Told) -> list[Line]:
    told.say("setting up")
    house = bed.house()
    peers = {name: what for name, what in PEERS.items() if name != "granian" or find_spec(name)}
    names = [None, "instant", "stock", *peers]
    hits = {name: Hits(bed, house, bed.api(house, name)) for name in names}
    found = in_turns({name or OURS: each for name, each in hits.items()}, sizes, told)
    told.say("counting again")
    wrong = mismatches(house, *(hits[name] for name in (None, "unbatched", "granian") if name in hits))
    errors = sum(each.errors for each in hits.values())
    lines = [
        _share("2a", "the same handler, auth and shapes without the ledger", found, "instant", INSTANT),
        _share("2b", "a stock Litestar handler that does nothing", found, "stock", STOCK),
        *(_share("2", what, found, name) for name, what in peers.items()),
    ]
    return [_checked(line, wrong, errors) for line in lines]


def _share(row: str, against: str, found: dict[str, Samples], name: str, must: float | None = None) -> Line:
    ours, its = found[OURS], found[name]
    share = ours.over(its)
    return Line(
        row,
        f"one deduct per HTTP request, {CLIENTS} connections, against {against}",
        share.percent,
        "" if must is None else f"≥ {must:.0%}",
        None if must is None else share.median >= must,
        f"{ours}/s against {its}/s",
    )


def _checked(line: Line, wrong: int, errors: int) -> Line:
    """What went wrong makes the row missed, also where no figure is asked of it."""
    reached = False if wrong or errors else line.reached
    beside = f"{line.beside}; {wrong} mismatches, {errors} errors"
    return msgspec.structs.replace(line, reached=reached, beside=beside)

"""Row 6: many operations in one HTTP request, beside the same without a ledger."""

import itertools
import json
import random
from collections.abc import Iterator

from tests.bench.bed import ACCOUNTS, Bed, House, Service, run
from tests.bench.figures import Line, Loaded, Samples
from tests.bench.generator import generate, post
from tests.bench.load import Bodies, load
from tests.bench.recount import Recount
from tests.bench.sizes import Sizes, Told, in_turns

OPERATIONS = 500
CLIENTS = 8
MUST = 40_000

_PATH = "/api/credits/batch"
_PREPARED = 50
_NUMBER = b"@" * 8
"""Where the number of a request stands in its keys."""


def bodies(*, keyed: bool) -> list[bytes]:
    """Batches of deducts from any of the accounts, 500 each."""
    drawn = random.Random(6)
    return [
        json.dumps(
            {"operations": [_deduct(drawn.choice(ACCOUNTS), keyed, i) for i in range(OPERATIONS)]}
        ).encode()
        for _ in range(_PREPARED)
    ]


def _deduct(account: str, keyed: bool, number: int) -> dict[str, object]:
    key = {"idempotencyKey": f"{_NUMBER.decode()}-{number}"} if keyed else {}
    return {"operation": "deduct", "accountId": account, "amount": 1, "modelId": "video-5s", **key}


class Hits:
    """One service under batches: without keys by the usual load, with a key each by our own generator."""

    def __init__(self, bed: Bed, house: House, service: Service) -> None:
        self._bed = bed
        self._house = house
        self._service = service
        self._plain = Bodies(_PATH, bodies(keyed=False))
        self._keyed = [post(_PATH, house.token, body) for body in bodies(keyed=True)]
        self._numbers = itertools.count(10_000_000)
        self.answered = self.errors = self.cut = 0
        self.p99s: list[float] = []

    def plain(self, seconds: float) -> float:
        self.cut += CLIENTS
        port, token = self._service.port, self._house.token
        came_to = load(self._bed.folder, port, token, self._plain, CLIENTS, seconds)
        self.p99s.append(came_to.p99_ms)
        return self._rate(came_to)

    def keyed(self, seconds: float) -> float:
        return self._rate(run(generate(self._service.port, self._requests(), CLIENTS, seconds))[0])

    def _requests(self) -> Iterator[bytes]:
        for request in itertools.cycle(self._keyed):
            yield request.replace(_NUMBER, b"%d" % next(self._numbers))

    def _rate(self, came_to: Loaded) -> float:
        self.answered += came_to.answered
        self.errors += came_to.errors
        return came_to.rate * OPERATIONS


def mismatches(house: House, hits: Hits) -> int:
    """Accounts that hold something else than their entries say; answers without entries, and the reverse."""
    recount = Recount(house.valkey.url)
    recount.read_on()
    unanswered = recount.kinds["deducted"] - hits.answered * OPERATIONS
    wrong = recount.mismatches() + max(0, -unanswered) + max(0, unanswered - hits.cut * OPERATIONS)
    recount.close()
    return wrong


def measure(bed: Bed, sizes: Sizes, told: Told) -> list[Line]:
    told.say("setting up")
    house = bed.house()
    ours, instant = Hits(bed, house, bed.api(house)), Hits(bed, house, bed.api(house, "instant"))
    things = {"lastro api": ours.plain, "a key each": ours.keyed, "no ledger": instant.plain}
    found = in_turns(things, sizes, told)
    told.say("counting again")
    wrong, errors = mismatches(house, ours), ours.errors + instant.errors
    rate, keyed, without = found["lastro api"], found["a key each"], found["no ledger"]
    return [
        Line(
            "6",
            f"batch endpoint, {OPERATIONS} deducts per request, {CLIENTS} connections, one API process",
            f"{rate} operations/s",
            f"≥ {MUST:,}/s",
            rate.median >= MUST and not wrong and not errors,
            f"a request's p99 {Samples(ours.p99s)} ms; without the ledger {without}/s; with a key for each,"
            f" by our own generator, {keyed}/s; {wrong} mismatches, {errors} errors",
        )
    ]

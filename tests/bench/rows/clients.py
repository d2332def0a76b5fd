"""Row 4: reserves from more and more clients. Every answer is held against the journal, one by one."""

import msgspec
from msgspec import Struct

from app.ledger.shards import TransactionId
from tests.bench.bed import Bed, House, Service, run
from tests.bench.figures import Line, Loaded, Samples
from tests.bench.generator import generate, post
from tests.bench.load import WRK, load, reserves
from tests.bench.recount import Place, Recount, Seen
from tests.bench.sizes import WARM_UP_SECONDS, Sizes, Told

CLIENTS = (1, 10, 50, 200)
JUDGED, MUST = 50, 5 * 999


class _Sums(Struct):
    available: int
    held: int


class _Transaction(Struct, rename="camel"):
    id: str
    account_id: str
    version: int
    amount: int
    reservation_id: str
    balance: _Sums


class _Reservation(Struct):
    id: str
    status: str
    reserved: int


class _Answer(Struct):
    """What is compared of an answer."""

    reservation: _Reservation
    transaction: _Transaction


_decode = msgspec.json.Decoder(_Answer).decode


class Matrix:
    """Measures one number of clients after the other, and checks the ledger after each."""

    def __init__(self, bed: Bed, house: House, service: Service) -> None:
        self._bed = bed
        self._house = house
        self._service = service
        self._what = reserves()
        self._requests = [post(self._what.path, house.token, body) for body in self._what.bodies]
        self._recount = Recount(house.valkey.url)
        self._recount.read_on()
        self.mismatches = self.answered = 0

    def checked(self, clients: int, seconds: float) -> Loaded:
        """By our own generator, which waits for every answer."""
        came_to, answers = run(generate(self._service.port, self._requests, clients, seconds, keep=True))
        entries = self._recount.read_on()
        self.answered += len(answers)
        self.mismatches += abs(len(entries) - len(answers))
        self.mismatches += sum(not _matches(_decode(answer), entries) for answer in answers)
        self.mismatches += self._recount.mismatches()
        return came_to

    def quick(self, clients: int, seconds: float) -> Loaded:
        """By wrk, which asks faster and leaves at the end what is under way: at most one request a client."""
        came_to = load(self._bed.folder, self._service.port, self._house.token, self._what, clients, seconds)
        unanswered = len(self._recount.read_on()) - came_to.answered
        self.answered += came_to.answered
        self.mismatches += max(0, -unanswered) + max(0, unanswered - clients) + self._recount.mismatches()
        return came_to

    def close(self) -> None:
        self._recount.close()


def _matches(answer: _Answer, entries: dict[Place, Seen]) -> bool:
    """Whether the journal has exactly what was answered."""
    said, made = answer.transaction, answer.reservation
    named = TransactionId.parse(said.id)
    entry = entries.get(Place(named.shard, named.sequence)) if named else None
    return (
        entry is not None
        and made.status == "pending"
        and made.id == said.reservation_id == entry.reservation
        and made.reserved == said.amount == entry.amount
        and (said.account_id, said.version) == (entry.account, entry.version)
        and (said.balance.available, said.balance.held) == (entry.available, entry.held)
    )


def measure(bed: Bed, sizes: Sizes, told: Told) -> list[Line]:
    told.say("setting up")
    house = bed.house()
    matrix = Matrix(bed, house, bed.api(house))
    matrix.checked(JUDGED, min(WARM_UP_SECONDS, sizes.seconds))
    found: dict[int, list[Loaded]] = {clients: [] for clients in CLIENTS}
    quick: list[Loaded] = []
    told.expect(sizes.rounds * (len(CLIENTS) + 1))
    for _ in range(sizes.rounds):
        for clients in CLIENTS:
            came_to = matrix.checked(clients, sizes.seconds)
            found[clients].append(came_to)
            told.step(f"{clients} clients {came_to.rate:,.0f}/s")
        if WRK:
            quick.append(matrix.quick(JUDGED, sizes.seconds))
        told.step("checked")
    matrix.close()
    return [_line(clients, found[clients], quick, matrix) for clients in CLIENTS]


def _line(clients: int, found: list[Loaded], quick: list[Loaded], matrix: Matrix) -> Line:
    rate, errors = Samples([each.rate for each in found]), sum(each.errors for each in found)
    p50, p99 = Samples([each.p50_ms for each in found]), Samples([each.p99_ms for each in found])
    beside = f"p50 {p50} ms, p99 {p99} ms, {errors} errors"
    if clients != JUDGED:
        return Line("4", f"one reserve per HTTP request, {_clients(clients)}", f"{rate}/s", beside=beside)
    if quick and (fast := Samples([each.rate for each in quick])).median > rate.median:
        beside += f"; by our generator, which takes a part of the two cores and checks each answer: {rate}/s"
        rate = fast
    errors += sum(each.errors for each in quick)
    beside += f"; {matrix.mismatches} mismatches among all {matrix.answered:,} answers of this row"
    return Line(
        "4",
        f"one reserve per HTTP request, {_clients(clients)}",
        f"{rate}/s",
        f"≥ {MUST:,}/s, 0 mismatches",
        rate.median >= MUST and not matrix.mismatches and not errors,
        beside,
    )


def _clients(clients: int) -> str:
    return "1 client" if clients == 1 else f"{clients} clients"

"""`/api/credits`: what moves credits. One route a verb, and the verb is the engine's."""

from litestar import Controller
from litestar.params import FromPath, JSONBody

from app.http import answers
from app.http.answers import Moved, Settled
from app.http.bodies import (
    CancelBody,
    ConfirmBody,
    DeductBody,
    GrantBody,
    ReserveBody,
    Settling,
    Stamp,
    TaskBody,
    given,
)
from app.http.problems import Headers
from app.http.reading import own, reservation_id
from app.http.routes import verb
from app.http.wire import Answer, LedgerRequest
from app.ledger.ledger import Receipt

_REPLAYED = (b"idempotency-replayed", b"true")
_CONFLICT = (b"lastro-conflict", b"amount")
_JOURNALED = {True: (b"lastro-journaled", b"true"), False: (b"lastro-journaled", b"false")}
_FUNDS = ("insufficient_credits", "credits_held")
_ENDED = ("reservation_not_found", "reservation_cancelled", "reservation_expired")


class Credits(Controller):
    """Grant, deduct, reserve, confirm, cancel, and name the task."""

    path = "/api/credits"
    tags = ("credits",)

    @verb(
        "/grant",
        GrantBody,
        scope="grant",
        status=201,
        summary="Add credits to an account",
        refusals=("already_expired", "balance_overflow", "limit_reached"),
    )
    async def grant(self, data: JSONBody[GrantBody], request: LedgerRequest) -> Answer[Moved]:
        """Opens the account if need be. Credits of another expiry stand in a lot of their own."""
        receipt = await request.ledger.grant(data.operation(_stamp(request, "grant", data)))
        return Answer(_moved(receipt), await _headers(request, receipt))

    @verb(
        "/deduct",
        DeductBody,
        scope="spend",
        status=201,
        summary="Spend credits at once",
        refusals=("account_not_found", *_FUNDS),
    )
    async def deduct(self, data: JSONBody[DeductBody], request: LedgerRequest) -> Answer[Moved]:
        """Takes from the lots in spending order: lower priority first, then soonest expiry, then oldest."""
        receipt = await request.ledger.deduct(data.operation(_stamp(request, "deduct", data)))
        return Answer(_moved(receipt), await _headers(request, receipt))

    @verb(
        "/reserve",
        ReserveBody,
        scope="spend",
        status=201,
        summary="Set credits aside for a job",
        refusals=("account_not_found", "task_conflict", "limit_reached", *_FUNDS),
    )
    async def reserve(self, data: JSONBody[ReserveBody], request: LedgerRequest) -> Answer[Settled]:
        """The credits stay held until the job is confirmed, cancelled or out of time."""
        stamp = _stamp(request, "reserve", data)
        made = await request.ledger.new_reservation_id(data.account_id)
        receipt = await request.ledger.reserve(data.operation(stamp, made, request.parts.holds_max))
        return Answer(_settled(receipt), await _headers(request, receipt))

    @verb(
        "/confirm",
        ConfirmBody,
        scope="spend",
        status=200,
        summary="Spend what a reservation holds",
        refusals=(*_ENDED, "exceeds_reservation"),
    )
    async def confirm(self, data: JSONBody[ConfirmBody], request: LedgerRequest) -> Answer[Settled]:
        """All that is held, or a part of it; the rest is released. Again: answered as the first time."""
        stamp = _stamp(request, "confirm", data)
        receipt = await request.ledger.confirm(data.operation(stamp, await _subject(request, data)))
        headers = await _headers(request, receipt)
        return Answer(_settled(receipt), [*headers, *_conflict(receipt, given(data.amount))])

    @verb(
        "/cancel",
        CancelBody,
        scope="spend",
        status=200,
        summary="Give back what a reservation holds",
        refusals=("reservation_not_found", "reservation_confirmed", "reservation_expired"),
    )
    async def cancel(self, data: JSONBody[CancelBody], request: LedgerRequest) -> Answer[Settled]:
        """Everything goes back to the lots it came from. Again: answered as the first time."""
        stamp = _stamp(request, "cancel", data)
        receipt = await request.ledger.cancel(data.operation(stamp, await _subject(request, data)))
        return Answer(_settled(receipt), await _headers(request, receipt))

    @verb(
        "/reservations/{reservation:str}/task",
        TaskBody,
        scope="spend",
        status=200,
        name="bind",
        summary="Name the provider's task that a reservation pays for",
        refusals=("reservation_not_found", "task_conflict"),
    )
    async def bind(
        self, reservation: FromPath[str], data: JSONBody[TaskBody], request: LedgerRequest
    ) -> Answer[Settled]:
        """From then on the reservation is found by the task id too."""
        named = reservation_id(reservation)
        stamp = request.stamp("bind", data)
        await own(request, named)
        receipt = await request.ledger.bind(data.operation(stamp, named))
        return Answer(_settled(receipt), await _headers(request, receipt))


def _stamp(request: LedgerRequest, verb: str, data: GrantBody | DeductBody | ReserveBody | Settling) -> Stamp:
    """Who asks and under which key, once it is clear that they may touch the account that the body names."""
    request.caller.touches(data.account_id)
    return request.stamp(verb, data)


async def _subject(request: LedgerRequest, data: Settling) -> str:
    """The id of the reservation that the body names."""
    task = given(data.task_id)
    if task is None:
        named = str(data.reservation_id).lower()
    else:
        named = await request.ledger.locate(given(data.provider), task)
    await own(request, named)
    return named


def _moved(receipt: Receipt) -> Moved:
    entry = receipt.entry
    return Moved(
        transaction=answers.transaction(str(receipt.transaction), entry, receipt.notes),
        balance=answers.balance(entry.account, receipt.account),
    )


def _settled(receipt: Receipt) -> Settled:
    entry = receipt.entry
    assert receipt.reservation is not None, "the engine answers these verbs with a reservation"
    return Settled(
        reservation=answers.reservation(receipt.reservation),
        transaction=answers.transaction(str(receipt.transaction), entry, receipt.notes),
        balance=answers.balance(entry.account, receipt.account),
    )


async def _headers(request: LedgerRequest, receipt: Receipt) -> Headers:
    """What the answer says about how it came about."""
    headers = [_REPLAYED] if receipt.replayed else []
    if request.caller.waits:
        there = await request.parts.acknowledging.journaled(receipt.transaction, receipt.entry.nonce)
        headers.append(_JOURNALED[there])
    return headers


def _conflict(receipt: Receipt, amount: int | None) -> Headers:
    """A repeated confirm that names another amount than the first one took."""
    return [_CONFLICT] if receipt.replayed and amount not in (None, receipt.entry.amount) else []

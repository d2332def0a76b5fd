"""`/api/credits`: what moves credits. One route a verb, and the verb is the engine's."""

from litestar import Controller, put
from litestar.params import FromPath, JSONBody

from app.http.crediting import AdjustBody, GrantBody, RefundBody
from app.http.reading import own, reservation_id
from app.http.receipts import Adjusted, Moved, Reserved, Settled, adjusted, headers, moved, reserved, settled
from app.http.routes import verb
from app.http.settling import CancelBody, ConfirmBody, ExtendBody, TaskBody
from app.http.spending import DeductBody, ReserveBody
from app.http.wire import Answer, LedgerRequest

_FUNDS = ("insufficient_credits", "credits_held")
_SPENDING = ("account_not_found", "model_not_found", "account_frozen", "account_closed", *_FUNDS)
_SETTLING = ("reservation_not_found", "account_closed")
_COMING_IN = ("account_closed", "limit_reached", "balance_overflow")


class Credits(Controller):
    """Grant, deduct, reserve, confirm, cancel, extend, refund, adjust, and name the task."""

    path = "/api/credits"
    tags = ("credits",)

    @verb(GrantBody, refusals=("already_expired", *_COMING_IN), summary="Add credits to an account")
    async def grant(self, data: JSONBody[GrantBody], request: LedgerRequest) -> Answer[Moved]:
        """Opens the account if need be. Credits of another expiry stand in a lot of their own."""
        operation = await request.operation(data)
        receipt = await request.ledger.grant(operation)
        return Answer(moved(receipt), await headers(request, operation, receipt))

    @verb(DeductBody, refusals=_SPENDING, summary="Spend credits at once")
    async def deduct(self, data: JSONBody[DeductBody], request: LedgerRequest) -> Answer[Moved]:
        """Takes from the lots in spending order: lower priority first, then soonest expiry, then oldest."""
        operation = await request.operation(data)
        receipt = await request.ledger.deduct(operation)
        return Answer(moved(receipt), await headers(request, operation, receipt))

    @verb(
        ReserveBody,
        refusals=("task_conflict", "limit_reached", *_SPENDING),
        summary="Set credits aside for a job",
    )
    async def reserve(self, data: JSONBody[ReserveBody], request: LedgerRequest) -> Answer[Reserved]:
        """The credits stay held until the job is confirmed, cancelled or out of time. With a `provider` whose
        webhooks are turned on: `callback`, to hand to it.
        """
        operation = await request.operation(data)
        receipt = await request.ledger.reserve(operation)
        return Answer(reserved(request, operation, receipt), await headers(request, operation, receipt))

    @verb(
        ConfirmBody,
        refusals=(
            "idempotency_key_required",
            "reservation_cancelled",
            "reservation_expired",
            "account_frozen",
            "exceeds_reservation",
            "limit_reached",
            *_SETTLING,
            *_FUNDS,
        ),
        summary="Spend what a reservation holds",
    )
    async def confirm(self, data: JSONBody[ConfirmBody], request: LedgerRequest) -> Answer[Settled]:
        """All that is held, or a part of it; the rest is released, or with `final=false` stays held. Again:
        answered as the first time.
        """
        operation = await request.operation(data)
        receipt = await request.ledger.confirm(operation)
        return Answer(settled(receipt), await headers(request, operation, receipt))

    @verb(
        CancelBody,
        refusals=("reservation_confirmed", "reservation_expired", *_SETTLING),
        summary="Give back what a reservation holds",
    )
    async def cancel(self, data: JSONBody[CancelBody], request: LedgerRequest) -> Answer[Settled]:
        """Everything goes back to the lots it came from. Again: answered as the first time."""
        operation = await request.operation(data)
        receipt = await request.ledger.cancel(operation)
        return Answer(settled(receipt), await headers(request, operation, receipt))

    @verb(
        ExtendBody,
        refusals=(
            "reservation_cancelled",
            "reservation_confirmed",
            "reservation_expired",
            "account_frozen",
            "invalid_extension",
            "limit_reached",
            *_SETTLING,
        ),
        summary="Give a job more time",
    )
    async def extend(self, data: JSONBody[ExtendBody], request: LedgerRequest) -> Answer[Settled]:
        """The deadline becomes now + `ttlSeconds`; never earlier than it is."""
        operation = await request.operation(data)
        receipt = await request.ledger.extend(operation)
        return Answer(settled(receipt), await headers(request, operation, receipt))

    @verb(
        RefundBody,
        refusals=(
            "transaction_not_found",
            "reservation_not_found",
            "not_refundable",
            "exceeds_transaction",
            *_COMING_IN,
        ),
        summary="Give back what was spent",
    )
    async def refund(self, data: JSONBody[RefundBody], request: LedgerRequest) -> Answer[Moved]:
        """All that is left of it or a part, to the lots it came from or to another bucket."""
        operation = await request.operation(data)
        receipt = await request.ledger.refund(operation)
        return Answer(moved(receipt), await headers(request, operation, receipt))

    @verb(
        AdjustBody,
        refusals=("account_not_found", *_COMING_IN, *_FUNDS),
        summary="Put a balance right",
    )
    async def adjust(self, data: JSONBody[AdjustBody], request: LedgerRequest) -> Answer[Adjusted]:
        """Adds or takes credits for a reason. `shortfall` is what could not be taken."""
        operation = await request.operation(data)
        receipt = await request.ledger.adjust(operation)
        return Answer(adjusted(receipt), await headers(request, operation, receipt))

    @verb(
        TaskBody,
        path="/reservations/{reservation:str}/task",
        route=put,
        refusals=("task_conflict", *_SETTLING),
        summary="Name the provider's task that a reservation pays for",
    )
    async def bind(
        self, reservation: FromPath[str], data: JSONBody[TaskBody], request: LedgerRequest
    ) -> Answer[Settled]:
        """From then on the reservation is found by the task id too."""
        named = reservation_id(reservation)
        operation = data.bind(request.stamp(data), named)
        await own(request, named)
        receipt = await request.ledger.bind(operation)
        return Answer(settled(receipt), await headers(request, operation, receipt))

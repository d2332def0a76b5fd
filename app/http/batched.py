"""What a batch is asked with and answered with."""

from functools import cache
from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType
from msgspec.structs import fields

from app.http import shapes
from app.http.answers import Balance, Reservation, Shown, Transaction
from app.http.bodies import Asking, Body
from app.http.crediting import AdjustBody, GrantBody, RefundBody
from app.http.problems import ProblemBody
from app.http.receipts import Callback
from app.http.settling import CancelBody, ConfirmBody, ExtendBody
from app.http.spending import DeductBody, ReserveBody

OPERATIONS_MAX = 1000

Key = shapes.Key | UnsetType


class BatchedGrant(GrantBody, kw_only=True, tag_field="operation", tag="grant"):
    """As `POST /api/credits/grant`."""

    idempotency_key: Key = UNSET


class BatchedDeduct(DeductBody, kw_only=True, tag_field="operation", tag="deduct"):
    """As `POST /api/credits/deduct`."""

    idempotency_key: Key = UNSET


class BatchedReserve(ReserveBody, kw_only=True, tag_field="operation", tag="reserve"):
    """As `POST /api/credits/reserve`."""

    idempotency_key: Key = UNSET


class BatchedConfirm(ConfirmBody, kw_only=True, tag_field="operation", tag="confirm"):
    """As `POST /api/credits/confirm`."""

    idempotency_key: Key = UNSET


class BatchedCancel(CancelBody, kw_only=True, tag_field="operation", tag="cancel"):
    """As `POST /api/credits/cancel`."""

    idempotency_key: Key = UNSET


class BatchedExtend(ExtendBody, kw_only=True, tag_field="operation", tag="extend"):
    """As `POST /api/credits/extend`."""

    idempotency_key: Key = UNSET


class BatchedRefund(RefundBody, kw_only=True, tag_field="operation", tag="refund"):
    """As `POST /api/credits/refund`."""

    idempotency_key: Key = UNSET


class BatchedAdjust(AdjustBody, kw_only=True, tag_field="operation", tag="adjust"):
    """As `POST /api/credits/adjust`."""

    idempotency_key: Key = UNSET


BatchedOperation = (
    BatchedGrant
    | BatchedDeduct
    | BatchedReserve
    | BatchedConfirm
    | BatchedCancel
    | BatchedExtend
    | BatchedRefund
    | BatchedAdjust
)


class BatchBody(Body, kw_only=True):
    """Operations in the order in which they are to be done."""

    operations: Annotated[list[BatchedOperation], Meta(min_length=1, max_length=OPERATIONS_MAX)]
    atomic: Annotated[bool, Meta(description="All or nothing.")] = False


class Result(ProblemBody, kw_only=True):
    """What an operation would have been answered alone, with its status: what it did, or a problem."""

    type: str | UnsetType = UNSET  # type: ignore[assignment]
    title: str | UnsetType = UNSET  # type: ignore[assignment]
    code: str | UnsetType = UNSET  # type: ignore[assignment]
    detail: str | UnsetType = UNSET  # type: ignore[assignment]
    replayed: bool
    conflict: (
        Annotated[Literal["amount"], Meta(description="It names another amount than what it repeats.")]
        | UnsetType
    ) = UNSET
    reservation: Reservation | str | UnsetType = UNSET  # type: ignore[assignment]
    callback: Callback | UnsetType = UNSET
    transaction: Transaction | UnsetType = UNSET
    balance: Balance | UnsetType = UNSET
    shortfall: int | UnsetType = UNSET


class BatchAnswer(Shown, kw_only=True):
    """What became of each operation, in their order."""

    failed_index: (
        Annotated[int, Meta(ge=0, description="Of which operation an atomic batch failed, from 0.")]
        | UnsetType
    ) = UNSET
    results: list[Result]


def alone(operation: BatchedOperation) -> Asking:
    """The body of the same request when it comes alone."""
    of, names = _alone(type(operation))
    return of(**{name: getattr(operation, name) for name in names})


@cache
def _alone(of: type[BatchedOperation]) -> tuple[type[Asking], tuple[str, ...]]:
    body = of.__bases__[0]
    return body, tuple(field.name for field in fields(body))

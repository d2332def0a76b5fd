"""What may be asked in a query: one struct a route, whose fields the OpenAPI document shows as parameters."""

from typing import Annotated, ClassVar, Literal, get_args

from msgspec import UNSET, Meta, Struct, UnsetType

from app.http import shapes
from app.http.bodies import given
from app.ledger.entries import Kind
from app.reports import TransactionFilter

_KINDS: frozenset[str] = frozenset(get_args(Kind))


class Query(Struct, forbid_unknown_fields=True, rename="camel"):
    """Its names are the only ones that the route takes; the text of `integers` is a whole number."""

    integers: ClassVar[frozenset[str]] = frozenset()


class BalanceQuery(Query, kw_only=True):
    """Whose balance. A key of one account may leave the account out."""

    account_id: shapes.AccountId | UnsetType = UNSET
    include: Literal["reservations"] | UnsetType = UNSET


class TaskQuery(Query, kw_only=True):
    """A provider's task."""

    task_id: shapes.TaskId
    provider: shapes.Provider | UnsetType = UNSET


class TransactionsQuery(
    Query,
    kw_only=True,
    rename={
        "since": "from",
        "until": "to",
        "account_id": "accountId",
        "reservation_id": "reservationId",
        "task_id": "taskId",
        "model_id": "modelId",
    },
):
    """Which transactions; `from <= at < to`."""

    integers = frozenset({"limit"})

    account_id: shapes.AccountId | UnsetType = UNSET
    reservation_id: shapes.ReservationId | UnsetType = UNSET
    task_id: shapes.TaskId | UnsetType = UNSET
    kind: Annotated[str, Meta(description="Kinds between commas: granted,deducted,...")] | UnsetType = UNSET
    model_id: shapes.ModelId | UnsetType = UNSET
    since: shapes.Instant | UnsetType = UNSET
    until: shapes.Instant | UnsetType = UNSET
    cursor: (
        Annotated[str, Meta(max_length=512, description="`nextCursor` of the page before.")] | UnsetType
    ) = UNSET
    limit: shapes.Limit = 50

    def __post_init__(self) -> None:
        if self.kind is not UNSET:
            for kind in self.kind.split(","):
                if kind not in _KINDS:
                    raise ValueError(f"`kind`: {kind[:64]!r} is none of {', '.join(sorted(_KINDS))}")

    def filter(self, account: str | None) -> TransactionFilter:
        """As the history wants it, for one account or all."""
        return TransactionFilter(
            account=account,
            reservation=self.reservation_id.lower() if self.reservation_id is not UNSET else None,
            task=given(self.task_id),
            kinds=tuple(self.kind.split(",")) if self.kind is not UNSET else (),  # type: ignore[arg-type]
            model=given(self.model_id),
            since=given(self.since),
            until=given(self.until),
        )

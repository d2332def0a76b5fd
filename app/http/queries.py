"""What may be asked in a query: one struct a route, whose fields the OpenAPI document shows as parameters."""

from datetime import UTC, datetime
from typing import Annotated, ClassVar, Literal, get_args

from msgspec import UNSET, Meta, Struct, UnsetType

from app.http import shapes
from app.http.bodies import given
from app.ledger.entries import Kind
from app.reports import TransactionFilter
from app.searching import AccountFilter, ReservationFilter

_KINDS: frozenset[str] = frozenset(get_args(Kind))


class Query(Struct, forbid_unknown_fields=True, rename="camel"):
    """Its names are the only ones that the route takes; the text of `integers` is a whole number."""

    integers: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        for name, shown in zip(self.__struct_fields__, self.__struct_encode_fields__, strict=True):
            value = getattr(self, name)
            if isinstance(value, datetime):
                try:
                    setattr(self, name, value.astimezone(UTC))
                except OverflowError:
                    raise ValueError(f"`{shown}`: outside the years 1 to 9999") from None


Cursor = Annotated[str, Meta(max_length=512, description="`nextCursor` of the page before.")]


class BalanceQuery(Query, kw_only=True):
    """Whose balance. A key of one account may leave the account out."""

    account_id: shapes.AccountId | UnsetType = UNSET
    include: Literal["reservations"] | UnsetType = UNSET
    at: (
        Annotated[datetime, Meta(tz=True, description="The balance as of then, from the journal.")]
        | UnsetType
    ) = UNSET

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.include is not UNSET and self.at is not UNSET:
            raise ValueError("`include`: reservations are shown as they are now, not together with `at`")


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
    cursor: Cursor | UnsetType = UNSET
    limit: shapes.Limit = 50
    format: (
        Annotated[
            Literal["csv", "jsonl"],
            Meta(description="All of them in one answer, whatever `limit` says, as a file of this format."),
        ]
        | UnsetType
    ) = UNSET

    def __post_init__(self) -> None:
        super().__post_init__()
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


class StatementQuery(Query, kw_only=True, rename={"since": "from", "until": "to"}):
    """From when to when; `from <= at < to`."""

    since: Annotated[datetime, Meta(tz=True, description="30 days before `to`, if left out.")] | UnsetType = (
        UNSET
    )
    until: Annotated[datetime, Meta(tz=True, description="Now, if left out.")] | UnsetType = UNSET


class ReservationsQuery(Query, kw_only=True):
    """Which reservations. A key of one account sees its own only."""

    integers = frozenset({"limit"})

    account_id: shapes.AccountId | UnsetType = UNSET
    status: (
        Annotated[
            Literal["pending", "confirmed", "cancelled", "expired"],
            Meta(description="`expired`: cancelled because the deadline passed; `cancelled`: the others."),
        ]
        | UnsetType
    ) = UNSET
    model_id: shapes.ModelId | UnsetType = UNSET
    due_before: (
        Annotated[
            datetime, Meta(tz=True, description="Whose deadline is earlier: RFC 3339, with any offset.")
        ]
        | UnsetType
    ) = UNSET
    cursor: Cursor | UnsetType = UNSET
    limit: shapes.Limit = 50

    def filter(self, account: str | None) -> ReservationFilter:
        """As the search wants it, for one account or all."""
        return ReservationFilter(
            account=account,
            status=given(self.status),
            model=given(self.model_id),
            due_before=given(self.due_before),
        )


class AccountsQuery(Query, kw_only=True):
    """Which accounts. A key of one account sees its own only."""

    integers = frozenset({"limit"})

    q: (
        Annotated[
            str,
            Meta(
                pattern=r"^[^\x00-\x1f]{0,128}$(?!\n)",
                description="A part of the id, sign by sign; none stands for others. All, if left out.",
            ),
        ]
        | UnsetType
    ) = UNSET
    cursor: Cursor | UnsetType = UNSET
    limit: shapes.Limit = 50

    def filter(self, account: str | None) -> AccountFilter:
        """As the search wants it, among all or for one account."""
        return AccountFilter(text=given(self.q) or "", account=account)

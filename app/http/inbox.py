"""`/api/credits/webhooks`: what providers told, what came of it, and acting on it once more."""

import re
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from litestar import Controller
from litestar.params import FromPath, JSONBody
from msgspec import UNSET, Meta, UnsetType

from app.http import shapes
from app.http.answers import Shown, Time
from app.http.bodies import Body, given
from app.http.problems import Problem, invalid
from app.http.queries import Cursor, Query
from app.http.routes import operating, reading
from app.http.times import iso, milliseconds
from app.http.wire import Answer, LedgerRequest
from app.webhooks.inbox import Row, RowFilter, RowStatus

T = TypeVar("T")
S = TypeVar("S", bound="DeliveryShown")

_ID = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)


class InboxQuery(Query, kw_only=True):
    """Which deliveries."""

    integers = frozenset({"limit"})

    provider: shapes.Provider | UnsetType = UNSET
    status: (
        Annotated[
            RowStatus | Literal["duplicate"],
            Meta(description="What came of it; `duplicate`: those that came more than once."),
        ]
        | UnsetType
    ) = UNSET
    reservation_id: shapes.ReservationId | UnsetType = UNSET
    task_id: shapes.TaskId | UnsetType = UNSET
    cursor: Cursor | UnsetType = UNSET
    limit: shapes.Limit = 50

    def filter(self) -> RowFilter:
        """As the inbox wants it."""
        named = given(self.reservation_id)
        return RowFilter(
            provider=given(self.provider),
            status=given(self.status),
            reservation=named and named.lower(),
            task=given(self.task_id),
        )


class ReplayBody(Body):
    """Nothing can be chosen."""


class DeliveryShown(Shown, kw_only=True):
    """What a provider told of a task: one for each ending, however often it came. Of those that could not be
    verified one for each provider, reason and hour.
    """

    id: str
    provider: str
    status: Annotated[
        RowStatus,
        Meta(
            description="`received`: not acted on yet; `verified`: done; `late`: confirmed late;"
            " `waiting`: for its task to be known; `unknown`: it was not within a day; `conflict`: it"
            " contradicts an ending; `refused`: the ledger said no; `rejected`: nobody knows who sent it."
        ),
    ]
    outcome: Literal["succeeded", "failed", "progress", "reversed"] | UnsetType = UNSET
    provider_status: Annotated[str, Meta(description="The provider's own word.")] | UnsetType = UNSET
    why: str | UnsetType = UNSET
    reason: Annotated[str, Meta(description="Why the job failed.")] | UnsetType = UNSET
    task_id: str | UnsetType = UNSET
    reservation_id: str | UnsetType = UNSET
    account_id: str | UnsetType = UNSET
    resource_id: str | UnsetType = UNSET
    transaction_id: str | UnsetType = UNSET
    amount: Annotated[int, Meta(description="The credits that it moved.")] | UnsetType = UNSET
    deliveries: Annotated[int, Meta(ge=1, description="How often it came.")]
    received_at: Time
    last_at: Time
    settled_at: Time | UnsetType = UNSET


class DeliveryWhole(DeliveryShown, kw_only=True):
    """The same with the JSON as it came, which is kept for 30 days."""

    payload: dict[str, Any] | UnsetType = UNSET


class Deliveries(Shown):
    """Newest first."""

    data: list[DeliveryShown]
    next_cursor: str | None
    has_more: bool


class Inbox(Controller):
    """The inbox of webhooks."""

    path = "/api/credits/webhooks"
    tags = ("webhooks",)

    @reading(
        "/",
        name="webhooks",
        scope="operate",
        query=InboxQuery,
        refusals=("invalid_cursor",),
        summary="What providers told, newest first",
    )
    async def page(self, request: LedgerRequest) -> Answer[Deliveries]:
        """Everything that came in at the doors, and what came of it."""
        request.caller.concerns_all("The inbox is")
        query = request.asked(InboxQuery)
        found = await request.parts.receiving.inbox.page(
            query.filter(), cursor=given(query.cursor), limit=query.limit
        )
        shown = [_shown(DeliveryShown, each) for each in found.data]
        return Answer(Deliveries(shown, found.next_cursor, found.next_cursor is not None))

    @reading(
        "/{delivery:str}", name="webhookById", scope="operate", refusals=("not_found",), summary="One of them"
    )
    async def one(self, delivery: FromPath[str], request: LedgerRequest) -> Answer[DeliveryWhole]:
        """With what the provider sent."""
        request.caller.concerns_all("The inbox is")
        return Answer(await _whole(request, _id(delivery)))

    @operating(
        "/{delivery:str}/replay",
        ReplayBody,
        name="replayWebhook",
        status=200,
        refusals=("not_found", "ledger_fenced", "journal_backlogged"),
        summary="Act on it once more",
    )
    async def replay(
        self,
        delivery: FromPath[str],
        data: JSONBody[ReplayBody],  # noqa: ARG002
        request: LedgerRequest,
    ) -> Answer[DeliveryWhole]:
        """When what stood against it is mended: credits were granted, the account is active, the task is
        bound. What was done is not done again.
        """
        request.caller.concerns_all("The inbox is")
        row = _id(delivery)
        if not await request.parts.receiving.replay(row):
            await _whole(request, row)  # which may not be there at all
            raise invalid(
                "Nothing of it is kept that could be acted on: payloads are kept for 30 days, and what could"
                " not be verified is only counted."
            )
        return Answer(await _whole(request, row))


def _id(text: str) -> int:
    if not _ID.fullmatch(text):
        raise invalid("`id`: a whole number, as the inbox shows it.", field="id")
    return int(text)


async def _whole(request: LedgerRequest, row: int) -> DeliveryWhole:
    found = await request.parts.receiving.inbox.row(row)
    if found is None:
        raise Problem("not_found", {"cause": "delivery"})
    shown = _shown(DeliveryWhole, found)
    if found.payload is not None:
        shown.payload = msgspec.Raw(found.payload.encode())  # type: ignore[assignment]
    return shown


def _given(value: T | None) -> T | UnsetType:
    return UNSET if value is None else value


def _shown(of: type[S], row: Row) -> S:
    return of(
        id=str(row.id),
        provider=row.provider,
        status=row.status,
        outcome=_given(row.outcome),
        provider_status=_given(row.word),
        why=_given(row.why),
        reason=_given(row.reason),
        task_id=_given(row.task),
        reservation_id=_given(row.reservation),
        account_id=_given(row.account),
        resource_id=_given(row.resource),
        transaction_id=_given(row.transaction),
        amount=_given(row.credits),
        deliveries=row.deliveries,
        received_at=iso(milliseconds(row.received_at)),
        last_at=iso(milliseconds(row.last_at)),
        settled_at=UNSET if row.settled_at is None else iso(milliseconds(row.settled_at)),
    )

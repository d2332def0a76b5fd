"""What providers told, what came of it, and acting on it once more."""

from typing import Literal, get_args

import msgspec
from litestar import Controller
from litestar.params import FromPath
from msgspec import UNSET, UnsetType

from app.dashboard.doing import Did, Doing
from app.dashboard.pages import PageRequest, form, once, page, see
from app.dashboard.showing import link
from app.http import shapes
from app.http.bodies import given
from app.http.problems import Problem, invalid
from app.http.queries import Cursor, Query
from app.http.wire import Answer
from app.operators import Asked
from app.webhooks.inbox import LATELY_ROWS_MAX, REPLAYABLE, Row, RowFilter, RowStatus

HERE = "/dashboard/webhooks"
STATUSES = (*get_args(RowStatus), "duplicate")
ROWS_SHOWN = 25
INDENTED_MAX = 16_384
_ID_MAX = 10**18


class InboxQuery(Query, kw_only=True):
    """Which deliveries."""

    provider: shapes.Provider | UnsetType = UNSET
    status: RowStatus | Literal["duplicate"] | UnsetType = UNSET
    task: shapes.TaskId | UnsetType = UNSET
    reservation: shapes.ReservationId | UnsetType = UNSET
    cursor: Cursor | UnsetType = UNSET

    def filter(self) -> RowFilter:
        """As the inbox wants it."""
        named = given(self.reservation)
        return RowFilter(
            provider=given(self.provider),
            status=given(self.status),
            task=given(self.task),
            reservation=named and named.lower(),
        )


class Webhooks(Controller):
    """The inbox."""

    path = "/webhooks"

    @page("/")
    async def inbox(self, request: PageRequest) -> Answer[bytes]:
        """The last day by provider, and the deliveries, newest first."""
        asked, inbox = request.asked(InboxQuery), request.parts.receiving.inbox
        which, doors = asked.filter(), request.parts.receiving.doors
        found = await inbox.page(which, cursor=given(asked.cursor), limit=ROWS_SHOWN)
        older = {
            "provider": which.provider,
            "status": which.status,
            "task": which.task,
            "reservation": which.reservation,
            "cursor": found.next_cursor,
        }
        return request.page(
            "webhooks.html",
            lately=await inbox.lately(),
            rows_max=LATELY_ROWS_MAX,
            which=which,
            rows=found.data,
            older=link(HERE, **older) if found.next_cursor else "",
            statuses=STATUSES,
            doors=sorted([*doors.open, *(["stripe"] if doors.stripe else [])]),
        )

    @page("/{delivery:str}")
    async def one(self, delivery: FromPath[str], request: PageRequest) -> Answer[bytes]:
        """A delivery with what the provider sent, and acting on it again."""
        row = await _row(request, delivery)
        return request.page(
            "webhook.html",
            row=row,
            payload=_indented(row.payload),
            replayable=row.status in REPLAYABLE and row.payload is not None,
            actions=await request.actions(about=_about(row)),
            did=request.asked(Did).did or None,
            once=once(),
        )

    @form("/{delivery:str}")
    async def replay(self, delivery: FromPath[str], request: PageRequest) -> Answer[bytes]:
        """Act on it once more. What was done is not done again."""
        given, row = request.sent(Doing), await _row(request, delivery)
        if row.payload is None:
            raise invalid("Nothing of it is kept that could be acted on: payloads are kept for 30 days.")

        async def do() -> str:
            await request.parts.receiving.replay(row.id)
            now = await _row(request, delivery)
            return f"{now.status}: {now.why}" if now.why else now.status

        by = request.visitor.known.by
        asked = Asked(
            key=given.once,
            act="replay",
            by=by,
            reason=given.reason,
            account=row.account,
            reservation=row.reservation,
            about=_about(row),
        )
        return see(link(f"{HERE}/{row.id}", did=await request.by_hand(asked, do)))


async def _row(request: PageRequest, delivery: str) -> Row:
    found = None
    if delivery.isascii() and delivery.isdigit() and 0 < int(delivery[:20]) < _ID_MAX:
        found = await request.parts.receiving.inbox.row(int(delivery))
    if found is None:
        raise Problem("not_found", {"cause": "delivery"})
    return found


def _about(row: Row) -> str:
    return f"webhook {row.id}"


def _indented(payload: str | None) -> str | None:
    """A long one as it came: whoever nests deeply would have each of very many lines begin with a thousand
    blanks.
    """
    if payload is None or len(payload) > INDENTED_MAX:
        return payload
    try:
        return msgspec.json.format(payload, indent=2)
    except RecursionError:
        return payload

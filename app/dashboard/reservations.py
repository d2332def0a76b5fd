"""Reservations: what is open and how old, one with all that happened to it, and ending one by hand."""

import re
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Annotated, Literal, get_args

from litestar import Controller
from litestar.params import FromPath
from msgspec import UNSET, Meta, UnsetType

from app.dashboard import previews
from app.dashboard.doing import Did
from app.dashboard.entries import lines
from app.dashboard.hands import ByHand, asking, operation, preview
from app.dashboard.pages import PageRequest, form, page, see
from app.dashboard.previews import is_late
from app.dashboard.showing import link
from app.http import shapes
from app.http.bodies import given
from app.http.queries import Cursor, Query
from app.http.reading import reservation_id
from app.http.settling import CancelBody, ConfirmBody, ExtendBody
from app.http.times import milliseconds, moment
from app.http.wire import Answer
from app.ledger.replies import Reservation
from app.ongoing import AGES_SECONDS, OPEN_MAX
from app.operators import Act, Asked
from app.reports import TransactionFilter
from app.searching import ReservationFilter, ReservationPage

HERE = "/dashboard/reservations"
ROWS_SHOWN = 50
ENTRIES_SHOWN = 100

Status = Literal["pending", "confirmed", "cancelled", "expired"]
STATUSES = get_args(Status)
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE | re.ASCII)
AGES = {
    "minute": (0, AGES_SECONDS[0]),
    "ten-minutes": (AGES_SECONDS[0], AGES_SECONDS[1]),
    "hour": (AGES_SECONDS[1], AGES_SECONDS[2]),
    "older": (AGES_SECONDS[2], None),
}
"""Ages by name: at least so many seconds, and fewer than so many."""


class ReservationsQuery(Query, kw_only=True):
    """Which reservations. `overdue`: those that are open after their deadline. `at`: the milliseconds as of
    which ages and deadlines are judged; on later pages those of the first one, so that all are of one list.
    """

    status: Status | Literal["overdue", "all"] = "pending"
    model: shapes.ModelId | UnsetType = UNSET
    account: shapes.AccountId | UnsetType = UNSET
    age: Literal["minute", "ten-minutes", "hour", "older"] | UnsetType = UNSET
    at: Annotated[str, Meta(pattern=r"^[0-9]{1,13}$(?!\n)")] | UnsetType = UNSET
    cursor: Cursor | UnsetType = UNSET


class FindQuery(Query, kw_only=True):
    """A reservation by its own id, or by the provider's task."""

    id: Annotated[str, Meta(max_length=255, pattern=r"^[^\x00-\x1f]*$(?!\n)")]


class ConfirmForm(ByHand, kw_only=True):
    """How much of it to spend: all, if left out. `late`: it is known that the deadline has passed."""

    amount: shapes.Captured | None = None
    over: shapes.OverCapture = "reject"
    late: Literal["yes"] | None = None


class CancelForm(ByHand, kw_only=True):
    """Why it is given back."""

    cause: Literal["requested", "failed"] = "requested"


class ExtendForm(ByHand, kw_only=True):
    """How long it has from now."""

    minutes: Annotated[int, Meta(ge=1, le=1440)]


class Reservations(Controller):
    """The list, one of them, and what can be done to it."""

    path = "/reservations"

    @page("/")
    async def reservations(self, request: PageRequest) -> Answer[bytes]:
        """The open ones by model and age, and a list, newest first."""
        asked = request.asked(ReservationsQuery)
        at = request.now if asked.at is UNSET else moment(int(asked.at))
        found = ReservationPage([], None)
        if request.wants("list"):
            found = await request.parts.searching.reservations(
                _filter(asked, at), cursor=given(asked.cursor), limit=ROWS_SHOWN
            )
        filters = {
            "status": None if asked.status == "pending" else asked.status,
            "model": given(asked.model),
            "account": given(asked.account),
            "age": given(asked.age),
        }
        return request.page(
            "reservations.html",
            open=await request.parts.ongoing.open_by_model() if request.wants("open") else [],
            open_max=OPEN_MAX,
            ages=list(AGES),
            filters=filters | {"status": asked.status},
            statuses=STATUSES,
            found=found.data,
            older=found.next_cursor and link(HERE, **filters, at=milliseconds(at), cursor=found.next_cursor),
        )

    @page("/find")
    async def find(self, request: PageRequest) -> Answer[bytes]:
        """By its id, or by a task of whatever provider."""
        named = request.asked(FindQuery).id.strip()
        if _UUID.fullmatch(named):
            return see(f"{HERE}/{named.lower()}")
        found = await request.parts.history.transactions(TransactionFilter(task=named), limit=1)
        if found.data and found.data[0].entry.reservation:
            return see(f"{HERE}/{found.data[0].entry.reservation}")
        return request.page("not_found.html", status=404, named=named)

    @page("/{reservation:str}")
    async def one(self, reservation: FromPath[str], request: PageRequest) -> Answer[bytes]:
        """As it stands now, exactly; and what led there."""
        found = await request.ledger.find(reservation_id(reservation))
        which = TransactionFilter(reservation=found.id)
        return request.page(
            "reservation.html",
            one=found,
            late=is_late(found, request.now),
            entries=lines((await request.parts.history.transactions(which, limit=ENTRIES_SHOWN)).data),
            actions=await request.actions(reservation=found.id),
            did=request.asked(Did).did,
        )

    @form("/{reservation:str}/confirm")
    async def confirm(self, reservation: FromPath[str], request: PageRequest) -> Answer[bytes]:
        """Spend what it holds; after its deadline, the same from what is available."""
        sent, found = request.sent(ConfirmForm), await request.ledger.find(reservation_id(reservation))
        if sent.once is None:
            account = (await request.ledger.balance(found.account)).account
            seen = previews.confirm(
                found, account, sent.amount, sent.over, request.now, late=sent.late is not None
            )
            return preview(request, seen, f"{HERE}/{found.id}", found.account, found.id)
        body = ConfirmBody(
            reservation_id=found.id,
            amount=UNSET if sent.amount is None else sent.amount,
            over_capture=sent.over,
            on_expired="charge" if sent.late else "reject",
        )
        do = asking(request.ledger.confirm, operation(request, sent, body))
        amount = "all of it" if sent.amount is None else f"{sent.amount:,} credits"
        detail = f"{amount}, late" if sent.late else amount
        return await _done(request, _asked(request, found, sent, "confirm", detail), do)

    @form("/{reservation:str}/cancel")
    async def cancel(self, reservation: FromPath[str], request: PageRequest) -> Answer[bytes]:
        """Give back what it holds."""
        sent, found = request.sent(CancelForm), await request.ledger.find(reservation_id(reservation))
        if sent.once is None:
            account = (await request.ledger.balance(found.account)).account
            seen = previews.cancel(found, account, request.now)
            return preview(request, seen, f"{HERE}/{found.id}", found.account, found.id)
        body = CancelBody(reservation_id=found.id, cause=sent.cause, reason=sent.reason)
        do = asking(request.ledger.cancel, operation(request, sent, body))
        return await _done(request, _asked(request, found, sent, "cancel", sent.cause), do)

    @form("/{reservation:str}/extend")
    async def extend(self, reservation: FromPath[str], request: PageRequest) -> Answer[bytes]:
        """Give it more time."""
        sent, found = request.sent(ExtendForm), await request.ledger.find(reservation_id(reservation))
        if sent.once is None:
            account = (await request.ledger.balance(found.account)).account
            seen = previews.extend(found, account, sent.minutes, request.now)
            return preview(request, seen, f"{HERE}/{found.id}", found.account, found.id)
        body = ExtendBody(reservation_id=found.id, ttl_seconds=sent.minutes * 60)
        do = asking(request.ledger.extend, operation(request, sent, body))
        detail = f"{sent.minutes} min from then"
        return await _done(request, _asked(request, found, sent, "extend", detail), do)


def _asked(request: PageRequest, found: Reservation, sent: ByHand, act: Act, detail: str) -> Asked:
    assert sent.once is not None, "what is not meant is only looked at"
    return Asked(
        key=sent.once,
        act=act,
        by=request.visitor.known.by,
        reason=sent.reason,
        account=found.account,
        reservation=found.id,
        detail=detail,
    )


async def _done(request: PageRequest, asked: Asked, do: Callable[[], Awaitable[str]]) -> Answer[bytes]:
    return see(link(f"{HERE}/{asked.reservation}", did=await request.by_hand(asked, do)))


def _filter(asked: ReservationsQuery, now: datetime) -> ReservationFilter:
    """As the search wants it."""
    status = asked.status
    least, most = AGES[asked.age] if asked.age is not UNSET else (0, None)
    return ReservationFilter(
        status=None if status == "all" else "pending" if status == "overdue" else status,
        model=given(asked.model),
        account=given(asked.account),
        due_before=now if status == "overdue" else None,
        made_before=now - timedelta(seconds=least) if least else None,
        made_since=None if most is None else now - timedelta(seconds=most),
    )

"""Accounts: finding one, all that happened to it, and putting it right by hand."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Literal

from litestar import Controller
from msgspec import UNSET, Meta, Struct, UnsetType

from app.dashboard import previews
from app.dashboard.entries import lines
from app.dashboard.hands import ByHand, asking, configuring, operation, preview
from app.dashboard.pages import PageRequest, form, page, see
from app.dashboard.showing import link
from app.http import exports, shapes
from app.http.bodies import given
from app.http.crediting import AdjustBody, SettingsBody
from app.http.queries import Cursor, Query
from app.http.wire import Answer
from app.ledger.replies import Account, Lot, Reservation
from app.operators import Act, Asked
from app.reports import TransactionFilter, TransactionPage
from app.searching import AccountFilter, ReservationFilter

HERE = "/dashboard/accounts"
ONE = f"{HERE}/one"
ROWS_SHOWN = 50
ENTRIES_SHOWN = 50
HOLDS_SHOWN = 50


class AccountsQuery(Query, kw_only=True):
    """A part of an id."""

    q: Annotated[str, Meta(pattern=r"^[^\x00-\x1f]{0,128}$(?!\n)")] = ""
    cursor: Cursor | UnsetType = UNSET


class AccountQuery(Query, kw_only=True):
    """An account, and from where on to show what happened. In the query, because `..` is an account, too."""

    integers = frozenset({"did"})

    account: shapes.AccountId
    cursor: Cursor | UnsetType = UNSET
    did: int = 0


class ExportQuery(Query, kw_only=True):
    """All that happened to an account, as a file."""

    account: shapes.AccountId
    format: exports.Format = "csv"


class OfAccount(ByHand, kw_only=True):
    """Whose it is."""

    account: shapes.AccountId


class AdjustForm(OfAccount, kw_only=True):
    """How much to add, or below 0 to take."""

    amount: shapes.Signed
    bucket: shapes.Bucket | None = None
    short: Literal["reject", "take"] = "reject"

    def __post_init__(self) -> None:
        """What the API refuses of such a body, too."""
        self.body()

    def body(self) -> AdjustBody:
        """As the API would be asked."""
        return AdjustBody(
            account_id=self.account,
            amount=self.amount,
            bucket=UNSET if self.bucket is None else self.bucket,
            short=self.short,
            reason=self.reason,
        )


class Bar(Struct, frozen=True):
    """A lot and how wide it is, in percent of the largest: what it has, and what of it is held."""

    lot: Lot
    has: float
    holds: float


class Accounts(Controller):
    """The search, one of them, and what can be done to it."""

    path = "/accounts"

    @page("/")
    async def accounts(self, request: PageRequest) -> Answer[bytes]:
        """Those whose id begins with what is looked for, then those that have it further on."""
        asked = request.asked(AccountsQuery)
        found = await request.parts.searching.accounts(
            AccountFilter(text=asked.q.strip()), cursor=given(asked.cursor), limit=ROWS_SHOWN
        )
        return request.page(
            "accounts.html",
            q=asked.q,
            found=found.data,
            older=found.next_cursor and link(HERE, q=asked.q or None, cursor=found.next_cursor),
        )

    @page("/one")
    async def one(self, request: PageRequest) -> Answer[bytes]:
        """What it has now, exactly; and what the journal has of it."""
        asked = request.asked(AccountQuery)
        account = (await request.ledger.balance(asked.account)).account
        found = TransactionPage([], None, None)
        if request.wants("timeline"):
            found = await request.parts.history.transactions(
                TransactionFilter(account=asked.account), cursor=given(asked.cursor), limit=ENTRIES_SHOWN
            )
        return request.page(
            "account.html",
            name=asked.account,
            account=account,
            bars=_bars(account),
            open=await _open(request, asked.account, account) if request.wants("now") else [],
            entries=lines(found.data),
            older=found.next_cursor and link(ONE, account=asked.account, cursor=found.next_cursor),
            actions=await request.actions(account=asked.account),
            did=asked.did,
        )

    @page("/export")
    async def export(self, request: PageRequest) -> Answer[object]:
        """The same file as of the API."""
        asked = request.asked(ExportQuery)
        everything = request.parts.history.export(TransactionFilter(account=asked.account))
        return exports.export(everything, asked.format, asked.account, request.now)

    @form("/adjust")
    async def adjust(self, request: PageRequest) -> Answer[bytes]:
        """Add or take credits."""
        sent = request.sent(AdjustForm)
        if sent.once is None:
            account = (await request.ledger.balance(sent.account)).account
            seen = previews.adjust(account, sent.amount, sent.bucket, sent.short)
            return preview(request, seen, link(ONE, account=sent.account), sent.account)
        do = asking(request.ledger.adjust, operation(request, sent, sent.body()))
        detail = f"{sent.amount:+,} credits" + (f" in {sent.bucket}" if sent.bucket else "")
        return await _done(request, sent, "adjust", detail, do)

    @form("/freeze")
    async def freeze(self, request: PageRequest) -> Answer[bytes]:
        """Refuse charges."""
        return await _set(request, "freeze", previews.freeze, SettingsBody(status="frozen"))

    @form("/activate")
    async def activate(self, request: PageRequest) -> Answer[bytes]:
        """Take charges again."""
        return await _set(request, "activate", previews.activate, SettingsBody(status="active"))


async def _set(
    request: PageRequest, act: Act, would: Callable[[Account], previews.Preview], body: SettingsBody
) -> Answer[bytes]:
    sent = request.sent(OfAccount)
    if sent.once is None:
        account = (await request.ledger.balance(sent.account)).account
        return preview(request, would(account), link(ONE, account=sent.account), sent.account)
    do = asking(request.ledger.configure, configuring(request, sent, sent.account, body))
    return await _done(request, sent, act, "", do)


async def _done(
    request: PageRequest, sent: OfAccount, act: Act, detail: str, do: Callable[[], Awaitable[str]]
) -> Answer[bytes]:
    assert sent.once is not None, "what is not meant is only looked at"
    asked = Asked(
        key=sent.once,
        act=act,
        by=request.visitor.known.by,
        reason=sent.reason,
        account=sent.account,
        detail=detail,
    )
    return see(link(ONE, account=sent.account, did=await request.by_hand(asked, do)))


async def _open(request: PageRequest, name: str, account: Account) -> list[Reservation]:
    """Its open reservations; of very many the newest, as the journal has them."""
    if account.open_holds <= HOLDS_SHOWN:
        return (await request.ledger.balance(name, reservations=True)).reservations
    which = ReservationFilter(account=name, status="pending")
    return (await request.parts.searching.reservations(which, limit=HOLDS_SHOWN)).data


def _bars(account: Account) -> list[Bar]:
    """The lots in the order in which they are spent."""
    most = max((abs(lot.available) + lot.held for lot in account.lots), default=0) or 1
    return [
        Bar(lot, round(100 * abs(lot.available) / most, 2), round(100 * lot.held / most, 2))
        for lot in account.lots
    ]

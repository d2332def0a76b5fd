"""What has been going on, in numbers, and the protocol through which HTTP and the dashboard see it. `main`
plugs in PostgreSQL.

Numbers are sums over the journal's entries, by the moment at which they happened. Every answer says how far
it has come: all that happened until `as_of` is in it, and `lag_seconds` is how long ago that was.
"""

from datetime import datetime, tzinfo
from typing import Literal, Protocol, get_args

from msgspec import Struct

from app.ledger.entries import Kind

Period = Literal["hour", "day", "week", "month"]
PERIODS: tuple[Period, ...] = get_args(Period)

POINTS_MAX = 1_000
TOP_MAX = 200


class WindowRefused(ValueError):
    """There is no such window; the message names what was asked for, and says what would be right."""


class TooManyPoints(WindowRefused):
    """A series would have more than `POINTS_MAX` steps."""


class AccountCounts(Struct, frozen=True, rename="camel"):
    """`with_balance`: those with something available or held."""

    total: int
    with_balance: int


class BucketSum(Struct, frozen=True):
    """Credits in all accounts' buckets of one name. `liability`: held and positive available."""

    bucket: str
    available: int
    held: int
    liability: int


class ReservationCounts(Struct, frozen=True):
    """How reservations stand, since the beginning. `expired` are not counted in `cancelled`."""

    pending: int
    confirmed: int
    cancelled: int
    expired: int


class KindSum(Struct, frozen=True):
    """Transactions of a kind: how many, and what they moved together (signed for `adjusted`)."""

    count: int
    credits: int


class ModelUse(Struct, frozen=True, kw_only=True):
    """What a model was used for. `credits`: deducted and confirmed, before refunds.

    `reserved`, `captured` and `average_seconds` (from the reserve on) are of reservations that were
    confirmed; `capture_ratio` is captured / reserved, `success_rate` confirmed / ended. What would be divided
    by nothing is None.
    """

    model: str
    transactions: int
    credits: int
    reserved: int
    captured: int
    capture_ratio: float | None
    success_rate: float | None
    average_seconds: float | None


class Overview(Struct, frozen=True, kw_only=True):
    """How everything stands, and what there was since the beginning. Kinds that never happened are left out;
    buckets by name, models most used first.
    """

    as_of: datetime
    lag_seconds: float
    accounts: AccountCounts
    available: int
    held: int
    liability: int
    buckets: list[BucketSum]
    reservations: ReservationCounts
    transactions: dict[Kind, KindSum]
    models: list[ModelUse]


class Step(Struct, frozen=True, kw_only=True):
    """What happened from `start` to the start of the next step. The kinds are in credits; `reservations` and
    `transactions` are counted, and `accounts` are the different ones that had a transaction.
    """

    start: datetime
    granted: int = 0
    deducted: int = 0
    confirmed: int = 0
    cancelled: int = 0
    expired: int = 0
    refunded: int = 0
    lapsed: int = 0
    adjusted: int = 0
    transactions: int = 0
    reservations: int = 0
    accounts: int = 0


class Usage(Struct, frozen=True, kw_only=True):
    """A series without holes. `previous`: all of as many steps as are in it, before its first one."""

    as_of: datetime
    lag_seconds: float
    period: Period
    series: list[Step]
    previous: Step


class AccountUse(Struct, frozen=True, kw_only=True):
    """What an account did in a window. `spent`: deducted and confirmed, before refunds."""

    account: str
    spent: int
    refunded: int
    transactions: int
    reservations: int
    last_activity_at: datetime


class TopAccounts(Struct, frozen=True, kw_only=True):
    """Those that spent most in the window, first; `since`: its beginning."""

    as_of: datetime
    lag_seconds: float
    period: Period
    since: datetime
    users: list[AccountUse]


class ModelsUse(Struct, frozen=True, kw_only=True):
    """Models in the window, most used first; `since`: its beginning."""

    as_of: datetime
    lag_seconds: float
    period: Period
    since: datetime
    models: list[ModelUse]


class Monitoring(Protocol):
    """Every method raises `app.ledger.backing.BackingUnavailable` when PostgreSQL is away."""

    async def overview(self) -> Overview:
        """How everything stands."""
        ...

    async def usage(
        self, period: Period, since: datetime | None, until: datetime | None, tz: tzinfo
    ) -> Usage:
        """A series of steps of `period` by the clocks of `tz`; by default the last 24 hours, 30 days, 12
        weeks or 12 months. `since` and `until`: the steps that they are in are shown whole.

        Raises:
            TooManyPoints
            WindowRefused: `until` is not after `since`, or near the ends of time.
        """
        ...

    async def top_accounts(self, period: Period, limit: int) -> TopAccounts:
        """At most `limit` (1 to `TOP_MAX`) of the accounts that spent most in the `period` that ends now."""
        ...

    async def models(self, period: Period) -> ModelsUse:
        """All models that were used in the `period` that ends now."""
        ...

"""The bodies of what puts credits into an account, or puts an account right."""

from datetime import UTC, datetime
from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType
from msgspec.structs import replace

from app.http import shapes
from app.http.bodies import Asking, Body, Noted, Stamp, given, sealed
from app.http.lookups import Lookups
from app.http.times import milliseconds
from app.ledger.operations import Adjust, Configure, Grant, Refund


class GrantBody(Noted, kw_only=True):
    """Credits for an account."""

    verb, scope, success = "grant", "grant", 201

    account_id: shapes.AccountId
    amount: shapes.Amount
    bucket: shapes.Bucket = "default"
    priority: shapes.Priority | UnsetType = UNSET
    expires_at: (
        Annotated[datetime, Meta(tz=True, description="When they lapse; never, if left out.")] | UnsetType
    ) = UNSET
    rollover: shapes.Rollover = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        shapes.check_bucket(self.bucket)
        if self.expires_at is not UNSET:
            try:
                self.expires_at = self.expires_at.astimezone(UTC)
            except OverflowError:
                raise ValueError("`expiresAt`: outside the years 1 to 9999") from None

    def operation(self, stamp: Stamp, lookups: Lookups) -> Grant:  # noqa: ARG002
        notes, notes_hash = self.seal()
        # 0 would mean never; the first millisecond has lapsed as surely as the one before it
        expires_at_ms = 0 if self.expires_at is UNSET else max(1, milliseconds(self.expires_at))
        return Grant(
            account=self.account_id,
            amount=self.amount,
            bucket=self.bucket,
            priority=given(self.priority),
            expires_at_ms=expires_at_ms,
            rollover=self.rollover,
            by=stamp.by,
            key=stamp.key,
            fingerprint=stamp.fingerprint,
            notes=notes,
            notes_hash=notes_hash,
        )


class RefundBody(Asking, kw_only=True):
    """What to give back of what a transaction, or a whole reservation, has spent."""

    verb, scope, success = "refund", "grant", 201

    transaction_id: shapes.TransactionId | UnsetType = UNSET
    reservation_id: shapes.ReservationId | UnsetType = UNSET
    amount: shapes.Amount | UnsetType = UNSET
    bucket: shapes.Bucket | UnsetType = UNSET
    reason: shapes.Reason | UnsetType = UNSET

    def __post_init__(self) -> None:
        shapes.check_bucket(self.bucket)
        if (self.transaction_id is UNSET) == (self.reservation_id is UNSET):
            raise ValueError("Exactly one of `transactionId` and `reservationId` must be given")

    def spent(self) -> tuple[str | None, str | None]:
        """By which transaction, or by which reservation."""
        reservation = given(self.reservation_id)
        return given(self.transaction_id), reservation and reservation.lower()

    def wants(self, stamp: Stamp, lookups: Lookups) -> None:  # noqa: ARG002
        lookups.want_refund(*self.spent())

    def operation(self, stamp: Stamp, lookups: Lookups) -> Refund:
        found = lookups.refund(*self.spent())
        notes, notes_hash = sealed(given(self.reason))
        return replace(
            found,
            amount=given(self.amount),
            bucket=given(self.bucket),
            by=stamp.by,
            key=stamp.key,
            fingerprint=stamp.fingerprint,
            notes=notes,
            notes_hash=notes_hash,
        )


class AdjustBody(Asking, kw_only=True):
    """What an operator puts right, and why."""

    verb, scope, success = "adjust", "operate", 201

    account_id: shapes.AccountId
    amount: shapes.Signed
    bucket: shapes.Bucket | UnsetType = UNSET
    short: Literal["reject", "take"] = "reject"
    reason: Annotated[shapes.Reason, Meta(min_length=1)]

    def __post_init__(self) -> None:
        shapes.check_bucket(self.bucket)
        if self.amount == 0:
            raise ValueError("`amount`: 0 puts nothing right")

    def operation(self, stamp: Stamp, lookups: Lookups) -> Adjust:  # noqa: ARG002
        notes, notes_hash = sealed(self.reason)
        return Adjust(
            account=self.account_id,
            amount=self.amount,
            bucket=given(self.bucket),
            short=self.short,
            by=stamp.by,
            key=stamp.key,
            fingerprint=stamp.fingerprint,
            notes=notes,
            notes_hash=notes_hash,
        )


class SettingsBody(Body, kw_only=True):
    """Settings of an account to change; what is left out stays. Which account stands in the path."""

    overdraft_limit: shapes.OverdraftLimit | UnsetType = UNSET
    status: shapes.Status | UnsetType = UNSET
    low_balance: shapes.LowBalance | UnsetType = UNSET

    def operation(self, by: str, account: str) -> Configure:
        """It needs no key: settings are the same however often they are set."""
        return Configure(
            account=account,
            overdraft_limit=given(self.overdraft_limit),
            status=given(self.status),
            low_balance=given(self.low_balance),
            by=by,
        )

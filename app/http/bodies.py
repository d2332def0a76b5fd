"""The bodies of the verbs: what may be asked, and the operation that it becomes.

A field that may be left out is never `null`. Fields of capabilities that are not built are unknown here, and
so refused.
"""

from datetime import UTC, datetime
from functools import cache
from typing import Annotated, Literal, NamedTuple, TypeVar

from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import fields

from app.http import shapes
from app.http.times import milliseconds
from app.ledger.entries import seal
from app.ledger.ledger import fingerprint
from app.ledger.operations import Bind, Cancel, Confirm, Deduct, Grant, Reserve

T = TypeVar("T")


class Stamp(NamedTuple):
    """Who asks, and under which key. `key` and `fingerprint` come together or not at all."""

    by: str
    key: str | None
    fingerprint: str | None


def given(value: T | UnsetType) -> T | None:
    """The value, or `None` where it was left out."""
    return None if value is UNSET else value


class Body(Struct, forbid_unknown_fields=True, omit_defaults=True, rename="camel"):
    """Its JSON without defaults is what the fingerprint is made of."""

    def fingerprint(self, verb: str) -> str:
        """The same for a default that is named and one that is left out."""
        for name, default in _defaults(type(self)):
            if getattr(self, name) == default:
                setattr(self, name, default)  # msgspec leaves out what is the default, not what equals it
        return fingerprint(verb, self)


@cache
def _defaults(of: type[Body]) -> list[tuple[str, object]]:
    return [
        (field.name, field.default)
        for field in fields(of)
        if not field.required and field.default is not UNSET
    ]


class Noted(Body, kw_only=True):
    """A body with personal text beside it."""

    reason: shapes.Reason | UnsetType = UNSET
    metadata: shapes.Metadata | UnsetType = UNSET

    def __post_init__(self) -> None:
        if self.metadata is not UNSET:
            shapes.check_metadata(self.metadata)

    def seal(self, resource: str | None = None) -> tuple[str | None, str | None]:
        """The notes and their hash."""
        if self.reason is UNSET and self.metadata is UNSET and resource is None:
            return None, None
        sealed = seal(given(self.reason), resource, given(self.metadata))
        return (sealed.text, sealed.hash) if sealed else (None, None)


class GrantBody(Noted, kw_only=True):
    """Credits for an account."""

    account_id: shapes.AccountId
    amount: shapes.Amount
    bucket: shapes.Bucket = "default"
    priority: shapes.Priority | UnsetType = UNSET
    expires_at: (
        Annotated[datetime, Meta(tz=True, description="When they lapse; never, if left out.")] | UnsetType
    ) = UNSET

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bucket == shapes.OVERDRAFT:
            raise ValueError("`bucket`: overdraft is the place of debts; name another")
        if self.expires_at is not UNSET:
            try:
                self.expires_at = self.expires_at.astimezone(UTC)
            except OverflowError:
                raise ValueError("`expiresAt`: outside the years 1 to 9999") from None

    def operation(self, stamp: Stamp) -> Grant:
        notes, notes_hash = self.seal()
        # 0 would mean never; the first millisecond has lapsed as surely as the one before it
        expires_at_ms = 0 if self.expires_at is UNSET else max(1, milliseconds(self.expires_at))
        return Grant(
            account=self.account_id,
            amount=self.amount,
            bucket=self.bucket,
            priority=given(self.priority),
            expires_at_ms=expires_at_ms,
            by=stamp.by,
            key=stamp.key,
            fingerprint=stamp.fingerprint,
            notes=notes,
            notes_hash=notes_hash,
        )


class DeductBody(Noted, kw_only=True):
    """Credits to spend at once."""

    account_id: shapes.AccountId
    amount: shapes.Amount
    model_id: shapes.ModelId | UnsetType = UNSET

    def operation(self, stamp: Stamp) -> Deduct:
        notes, notes_hash = self.seal()
        return Deduct(
            account=self.account_id,
            amount=self.amount,
            model=given(self.model_id),
            by=stamp.by,
            key=stamp.key,
            fingerprint=stamp.fingerprint,
            notes=notes,
            notes_hash=notes_hash,
        )


class ReserveBody(Noted, kw_only=True):
    """Credits to set aside for one job."""

    account_id: shapes.AccountId
    amount: shapes.Amount
    ttl_seconds: shapes.TtlSeconds = 1800
    task_id: shapes.TaskId | UnsetType = UNSET
    resource_id: shapes.ResourceId | UnsetType = UNSET
    model_id: shapes.ModelId | UnsetType = UNSET
    provider: shapes.Provider | UnsetType = UNSET

    def operation(self, stamp: Stamp, reservation: str, holds_max: int) -> Reserve:
        resource = given(self.resource_id)
        notes, notes_hash = self.seal(resource)
        return Reserve(
            account=self.account_id,
            reservation=reservation,
            amount=self.amount,
            ttl_ms=self.ttl_seconds * 1000,
            holds_max=holds_max,
            task=given(self.task_id),
            provider=given(self.provider),
            resource=resource,
            model=given(self.model_id),
            metadata=given(self.metadata),
            by=stamp.by,
            key=stamp.key,
            fingerprint=stamp.fingerprint,
            notes=notes,
            notes_hash=notes_hash,
        )


class Settling(Body, kw_only=True):
    """A body that names a reservation: by its id, or by the provider's task."""

    reservation_id: shapes.ReservationId | UnsetType = UNSET
    task_id: shapes.TaskId | UnsetType = UNSET
    provider: shapes.Provider | UnsetType = UNSET
    account_id: shapes.AccountId | UnsetType = UNSET

    def __post_init__(self) -> None:
        if (self.reservation_id is UNSET) == (self.task_id is UNSET):
            raise ValueError("Exactly one of `reservationId` and `taskId` must be given")
        if self.provider is not UNSET and self.task_id is UNSET:
            raise ValueError("`provider`: goes with a `taskId` only")


class ConfirmBody(Settling, kw_only=True):
    """Credits to spend of what a reservation holds; the rest is released."""

    amount: shapes.Captured | UnsetType = UNSET
    model_id: shapes.ModelId | UnsetType = UNSET

    def operation(self, stamp: Stamp, reservation: str) -> Confirm:
        return Confirm(
            reservation=reservation,
            amount=given(self.amount),
            account=given(self.account_id),
            model=given(self.model_id),
            by=stamp.by,
            key=stamp.key,
            fingerprint=stamp.fingerprint,
        )


class CancelBody(Settling, kw_only=True):
    """A reservation to give back."""

    cause: Literal["requested", "failed"] = "requested"
    reason: shapes.Reason | UnsetType = UNSET

    def operation(self, stamp: Stamp, reservation: str) -> Cancel:
        reason = given(self.reason)
        sealed = seal(reason) if reason is not None else None
        return Cancel(
            reservation=reservation,
            cause=self.cause,
            reason=reason,
            account=given(self.account_id),
            by=stamp.by,
            key=stamp.key,
            fingerprint=stamp.fingerprint,
            notes=sealed.text if sealed else None,
            notes_hash=sealed.hash if sealed else None,
        )


class TaskBody(Body, kw_only=True):
    """The provider's task that a reservation pays for."""

    task_id: shapes.TaskId
    provider: shapes.Provider | UnsetType = UNSET
    resource_id: shapes.ResourceId | UnsetType = UNSET

    def operation(self, stamp: Stamp, reservation: str) -> Bind:
        resource = given(self.resource_id)
        sealed = seal(None, resource) if resource is not None else None
        return Bind(
            reservation=reservation,
            task=self.task_id,
            provider=given(self.provider),
            resource=resource,
            by=stamp.by,
            key=stamp.key,
            fingerprint=stamp.fingerprint,
            notes=sealed.text if sealed else None,
            notes_hash=sealed.hash if sealed else None,
        )

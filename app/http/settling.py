"""The bodies that name a reservation: what may be asked, and the operation that it becomes."""

from typing import Literal

from msgspec import UNSET, UnsetType

from app.http import shapes
from app.http.bodies import Asking, Stamp, given, sealed
from app.http.lookups import Lookups, Named
from app.http.problems import Problem
from app.ledger import confirming
from app.ledger.errors import ReservationNotFound
from app.ledger.operations import Bind, Cancel, Confirm, Extend


class Settling(Asking, kw_only=True):
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

    @property
    def named(self) -> Named:
        """The reservation."""
        if self.task_id is not UNSET:
            return given(self.provider), self.task_id
        return str(self.reservation_id).lower()

    def wants(self, stamp: Stamp, lookups: Lookups) -> None:  # noqa: ARG002
        lookups.want_reservation(self.named)


class ConfirmBody(Settling, kw_only=True):
    """Credits to spend of what a reservation holds. The rest is released, or stays held."""

    verb, scope, success = "confirm", "spend", 200

    amount: shapes.Captured | UnsetType = UNSET
    units: shapes.Decimal | UnsetType = UNSET
    final: bool = True
    over_capture: shapes.OverCapture | UnsetType = UNSET
    on_expired: shapes.OnExpired | UnsetType = UNSET
    model_id: shapes.ModelId | UnsetType = UNSET

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.amount is not UNSET and self.units is not UNSET:
            raise ValueError("`amount`: at most one of `amount` and `units` may be given")
        if self.amount == 0 and not self.final:
            raise ValueError("`amount`: a part is at least 1; 0 releases all, and so is final")

    def unkeyed(self) -> None:
        if not self.final:
            raise Problem("idempotency_key_required", {})

    def wants(self, stamp: Stamp, lookups: Lookups) -> None:  # noqa: ARG002
        lookups.want_reservation(self.named, whole=self.units is not UNSET)

    def operation(self, stamp: Stamp, lookups: Lookups) -> Confirm:
        return Confirm(
            reservation=self.found(stamp, lookups),
            amount=self.captured(lookups),
            final=self.final,
            over_capture=given(self.over_capture),
            on_expired=given(self.on_expired),
            account=given(self.account_id),
            model=given(self.model_id),
            by=stamp.by,
            key=stamp.key,
            fingerprint=stamp.fingerprint,
        )

    def found(self, stamp: Stamp, lookups: Lookups) -> str:
        """The id of the reservation. That there is none is told here: the ledger is not asked then."""
        try:
            return lookups.id_of(self.named)
        except ReservationNotFound as error:
            looked_for = {
                "reservation": given(self.reservation_id),
                "task": given(self.task_id),
                "provider": given(self.provider),
            }
            confirming.not_found(looked_for, error, stamp.by)
            raise

    def captured(self, lookups: Lookups) -> int | None:
        """How many credits, where it says so."""
        return given(self.amount) if self.units is UNSET else lookups.captured(self.named, self.units)


class CancelBody(Settling, kw_only=True):
    """A reservation to give back."""

    verb, scope, success = "cancel", "spend", 200

    cause: Literal["requested", "failed"] = "requested"
    reason: shapes.Reason | UnsetType = UNSET

    def operation(self, stamp: Stamp, lookups: Lookups) -> Cancel:
        reason = given(self.reason)
        notes, notes_hash = sealed(reason)
        return Cancel(
            reservation=lookups.id_of(self.named),
            cause=self.cause,
            reason=reason,
            account=given(self.account_id),
            by=stamp.by,
            key=stamp.key,
            fingerprint=stamp.fingerprint,
            notes=notes,
            notes_hash=notes_hash,
        )


class ExtendBody(Settling, kw_only=True):
    """A reservation that needs more time."""

    verb, scope, success = "extend", "spend", 200

    ttl_seconds: shapes.TtlSeconds

    def operation(self, stamp: Stamp, lookups: Lookups) -> Extend:
        return Extend(
            reservation=lookups.id_of(self.named),
            ttl_ms=self.ttl_seconds * 1000,
            account=given(self.account_id),
            by=stamp.by,
            key=stamp.key,
            fingerprint=stamp.fingerprint,
        )


class TaskBody(Asking, kw_only=True):
    """The provider's task that a reservation pays for. Which one stands in the path."""

    verb, scope, success = "bind", "spend", 200

    task_id: shapes.TaskId
    provider: shapes.Provider | UnsetType = UNSET
    resource_id: shapes.ResourceId | UnsetType = UNSET

    def bind(self, stamp: Stamp, reservation: str) -> Bind:
        """The operation on that reservation."""
        resource = given(self.resource_id)
        notes, notes_hash = sealed(None, resource)
        return Bind(
            reservation=reservation,
            task=self.task_id,
            provider=given(self.provider),
            resource=resource,
            by=stamp.by,
            key=stamp.key,
            fingerprint=stamp.fingerprint,
            notes=notes,
            notes_hash=notes_hash,
        )

"""The bodies of what spends credits, or sets them aside to be spent."""

from typing import Annotated

from msgspec import UNSET, Meta, UnsetType

from app.http import shapes
from app.http.bodies import Noted, Stamp, given
from app.http.lookups import Lookups
from app.http.pricing import TTL_SECONDS
from app.ledger.operations import Deduct, Reserve


class Spending(Noted, kw_only=True):
    """So many credits of an account, or what so many units of a model cost."""

    account_id: shapes.AccountId
    amount: shapes.Amount | UnsetType = UNSET
    units: shapes.Decimal | UnsetType = UNSET
    model_id: shapes.ModelId | UnsetType = UNSET

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.amount is UNSET) == (self.units is UNSET):
            raise ValueError("`amount`: exactly one of `amount` and `units` must be given")
        if self.units is not UNSET and self.model_id is UNSET:
            raise ValueError("`units`: must come with the `modelId` that they are of")

    def wants(self, lookups: Lookups) -> None:
        if self.units is not UNSET and self.model_id is not UNSET:
            lookups.want_price(self.model_id)

    def charge(self, lookups: Lookups) -> tuple[int, str | None]:
        """The amount, and where it was computed from units, the text of the price."""
        if self.units is UNSET or self.model_id is UNSET:
            assert self.amount is not UNSET, "one of both was demanded"
            return self.amount, None
        priced = lookups.price(self.model_id, self.units)
        return priced.credits, priced.text


class DeductBody(Spending, kw_only=True):
    """Credits to spend at once."""

    verb, scope, success = "deduct", "spend", 201

    def operation(self, stamp: Stamp, lookups: Lookups) -> Deduct:
        amount, price = self.charge(lookups)
        notes, notes_hash = self.seal()
        return Deduct(
            account=self.account_id,
            amount=amount,
            price=price,
            model=given(self.model_id),
            by=stamp.by,
            key=stamp.key,
            fingerprint=stamp.fingerprint,
            notes=notes,
            notes_hash=notes_hash,
        )


class ReserveBody(Spending, kw_only=True):
    """Credits to set aside for one job."""

    verb, scope, success = "reserve", "spend", 201

    ttl_seconds: (
        Annotated[shapes.TtlSeconds, Meta(extra_json_schema={"default": TTL_SECONDS})] | UnsetType
    ) = UNSET
    task_id: shapes.TaskId | UnsetType = UNSET
    resource_id: shapes.ResourceId | UnsetType = UNSET
    provider: shapes.Provider | UnsetType = UNSET
    over_capture: shapes.OverCapture = "reject"
    on_expired: shapes.OnExpired = "reject"

    def fingerprint(self) -> str:
        """To name the usual time is the same as to name none, though a model may have another one."""
        named = self.ttl_seconds
        if named == TTL_SECONDS:
            self.ttl_seconds = UNSET
        found = super().fingerprint()
        self.ttl_seconds = named
        return found

    def wants(self, lookups: Lookups) -> None:
        super().wants(lookups)
        lookups.want_new_reservation(self.account_id)

    def operation(self, stamp: Stamp, lookups: Lookups) -> Reserve:
        amount, price = self.charge(lookups)
        model, resource = given(self.model_id), given(self.resource_id)
        seconds = lookups.ttl_seconds(model) if self.ttl_seconds is UNSET else self.ttl_seconds
        notes, notes_hash = self.seal(resource)
        return Reserve(
            account=self.account_id,
            reservation=lookups.new_reservation(self.account_id),
            amount=amount,
            price=price,
            ttl_ms=seconds * 1000,
            holds_max=lookups.holds_max,
            task=given(self.task_id),
            provider=given(self.provider),
            resource=resource,
            model=model,
            metadata=given(self.metadata),
            over_capture=self.over_capture,
            on_expired=self.on_expired,
            by=stamp.by,
            key=stamp.key,
            fingerprint=stamp.fingerprint,
            notes=notes,
            notes_hash=notes_hash,
        )

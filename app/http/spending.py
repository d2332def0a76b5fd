"""The bodies of what spends credits, or sets them aside to be spent."""

from typing import Annotated, NamedTuple

from msgspec import UNSET, Meta, UnsetType

from app.http import shapes
from app.http.bodies import Noted, Stamp, given
from app.http.lookups import Lookups
from app.http.pricing import TTL_SECONDS
from app.http.problems import Problem
from app.ledger.backing import NOWHERE, Extent
from app.ledger.errors import LedgerError
from app.ledger.operations import Deduct, Reserve


class Charge(NamedTuple):
    """An amount, and where it was computed from units, the text of the price. With `NOWHERE` it is none, and
    what it is asked with is answered by its key or not at all.
    """

    amount: int
    price: str | None = None
    journaled: Extent | None = None


UNPRICED = Charge(1, journaled=NOWHERE)


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

    def wants(self, stamp: Stamp, lookups: Lookups) -> None:
        if self.units is not UNSET and self.model_id is not UNSET:
            lookups.want_price(self.model_id, self.units, self._asking(stamp))

    def charge(self, stamp: Stamp, lookups: Lookups) -> Charge:
        """What is to be paid. Raises as `Lookups.price`, where nothing was answered under the key before."""
        if self.units is UNSET or self.model_id is UNSET:
            assert self.amount is not UNSET, "one of both was demanded"
            return Charge(self.amount)
        try:
            priced = lookups.price(self.model_id, self.units)
        except (Problem, LedgerError):
            if lookups.is_answered(self.account_id, stamp.key):
                return UNPRICED
            raise
        return Charge(priced.credits, priced.text)

    def _asking(self, stamp: Stamp) -> Deduct | None:
        """What asks for the key alone, whatever the verb."""
        if stamp.key is None:
            return None
        amount, _, nowhere = UNPRICED
        return Deduct(
            account=self.account_id,
            amount=amount,
            journaled=nowhere,
            by=stamp.by,
            key=stamp.key,
            fingerprint=stamp.fingerprint,
        )


class DeductBody(Spending, kw_only=True):
    """Credits to spend at once."""

    verb, scope, success = "deduct", "spend", 201

    def operation(self, stamp: Stamp, lookups: Lookups) -> Deduct:
        amount, price, journaled = self.charge(stamp, lookups)
        notes, notes_hash = self.seal()
        return Deduct(
            account=self.account_id,
            amount=amount,
            price=price,
            journaled=journaled,
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

    def wants(self, stamp: Stamp, lookups: Lookups) -> None:
        super().wants(stamp, lookups)
        lookups.want_new_reservation(self.account_id)

    def operation(self, stamp: Stamp, lookups: Lookups) -> Reserve:
        amount, price, journaled = self.charge(stamp, lookups)
        model, resource = given(self.model_id), given(self.resource_id)
        seconds = given(self.ttl_seconds) or (TTL_SECONDS if journaled else lookups.ttl_seconds(model))
        notes, notes_hash = self.seal(resource)
        return Reserve(
            account=self.account_id,
            reservation=lookups.new_reservation(self.account_id),
            amount=amount,
            price=price,
            journaled=journaled,
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

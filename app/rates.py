"""The rate card: what a model's work costs, credits = ceil(base + units x price), in versions.

Numbers are texts in their shortest form ("12.5") and are computed with as `Decimal`, so that nothing is
rounded but by the ceiling at the end. A process prices from the card as it last saw it, without asking
anybody; `Rates` is where the card is kept. `main` plugs in PostgreSQL.
"""

import re
from collections.abc import Iterable
from datetime import datetime
from decimal import ROUND_CEILING, Context, Decimal, FloatOperation, Inexact, InvalidOperation, Rounded
from typing import NamedTuple, Protocol

import msgspec
from msgspec import Struct

from app.ledger.credits import CREDITS_MAX
from app.ledger.entries import Price

PLACES_MAX = 6
MODELS_MAX = 10_000

_NUMBER = re.compile(r"(?:0|[1-9][0-9]{0,15})(?:\.[0-9]{1,6})?", re.ASCII)
# base + units x price has at most 45 digits. A context that would round one away raises instead.
_EXACT = Context(prec=50, traps=[Inexact, Rounded, InvalidOperation, FloatOperation])
_written = msgspec.json.Encoder().encode


class ModelNotFound(LookupError):
    """The rate card has no such model."""


class NotAnAmount(ValueError):
    """What units come to is no amount of credits (1 .. 2^53 - 1); the text says it."""


class CardUnknown(Exception):
    """Whether and how the model is on the card only PostgreSQL can tell, and it has not been heard."""


class CardFull(Exception):
    """`MODELS_MAX` models are on the card."""


class Rate(Struct, frozen=True, kw_only=True):
    """One version of a model's row: 1, 2, 3 ... without gaps, never changed.

    `ttl_seconds`: how long a reservation for the model holds its credits where it does not say itself.
    """

    model: str
    version: int
    base: str
    price: str
    ttl_seconds: int | None
    by: str
    at: datetime


class RatePage(Struct, frozen=True):
    """Rows in the order of the listing; `next_cursor` `None` at its end."""

    data: list[Rate]
    next_cursor: str | None


class Priced(NamedTuple):
    """What units of a model cost by its latest version, and what that was computed from."""

    credits: int
    price: Price
    ttl_seconds: int | None

    @property
    def text(self) -> str:
        """The JSON text of `price`, as operations carry it."""
        return _written(self.price).decode()


def canonical(value: int | str) -> str:
    """The shortest text of a number: 0 .. 2^53 - 1 with at most 6 places.

    Raises:
        ValueError: It is none: a float, a sign, an exponent, a leading zero, too large, too many places.
    """
    text = str(value) if type(value) is int else value
    if not isinstance(text, str) or not _NUMBER.fullmatch(text):
        raise ValueError(f"an integer or a decimal string from 0 to {CREDITS_MAX} with at most 6 places")
    whole, _, places = text.partition(".")
    places = places.rstrip("0")
    if int(whole) + bool(places) > CREDITS_MAX:
        raise ValueError(f"at most {CREDITS_MAX}")
    return f"{whole}.{places}" if places else whole


def computed(base: str, price: str, units: str) -> int:
    """ceil(base + units x price), exactly. All three as `canonical` gives them."""
    exact = _EXACT.fma(Decimal(units), Decimal(price), Decimal(base))
    return int(exact.to_integral_value(ROUND_CEILING, _EXACT))


def reprice(price: Price, units: int | str) -> int:
    """What other units cost by the base and the price that were frozen, whatever the card says by now.

    Raises:
        ValueError: `units` is no number, see `canonical`.
        NotAnAmount: It comes to 0 credits, or to more than 2^53 - 1.
    """
    return _amount(price.model, price.version, price.base, price.price, canonical(units))


def _amount(model: str, version: int, base: str, price: str, units: str) -> int:
    amount = computed(base, price, units)
    if not 1 <= amount <= CREDITS_MAX:
        raise NotAnAmount(
            f"{units} come to {amount} credits (version {version} of {model}: base {base}, price {price}), "
            f"and an amount is 1 to {CREDITS_MAX}"
        )
    return amount


class Card:
    """The latest version of each model, as one process knows it. `price` is a dict look-up and some
    arithmetic: it never waits.

    `is_seen`: it has been read once. `is_current`: whoever read it last was answered, so that a model that
    is not here does not exist.
    """

    def __init__(self) -> None:
        self.is_seen = False
        self.is_current = False
        self._rates: dict[str, Rate] = {}

    def __contains__(self, model: str) -> bool:
        return model in self._rates

    def get(self, model: str) -> Rate | None:
        """The latest version; `None` where the model is not on the card.

        Raises:
            CardUnknown: The card has never been read.
        """
        rate = self._rates.get(model)
        if rate is None and not self.is_seen:
            raise CardUnknown
        return rate

    def price(self, model: str, units: int | str) -> Priced:
        """What so many units cost.

        Raises:
            ValueError: `units` is no number, see `canonical`.
            ModelNotFound: The model does not exist.
            CardUnknown: It is not known whether it does.
            NotAnAmount: It comes to 0 credits, or to more than 2^53 - 1.
        """
        text = canonical(units)
        rate = self._rates.get(model)
        if rate is None:
            raise ModelNotFound if self.is_current else CardUnknown
        amount = _amount(model, rate.version, rate.base, rate.price, text)
        price = Price(model=model, version=rate.version, base=rate.base, price=rate.price, units=text)
        return Priced(amount, price, rate.ttl_seconds)

    def replace(self, rates: dict[str, Rate]) -> None:
        """The card is this, as it was read just now."""
        self._rates = rates
        self.is_seen = self.is_current = True

    def put(self, rate: Rate) -> None:
        """A version was made, or found to be the latest; an older one than is known changes nothing."""
        known = self._rates.get(rate.model)
        if known is None or known.version < rate.version:
            self._rates[rate.model] = rate


class Rates(Protocol):
    """Where the rate card is kept, and what keeps `card` up to date. Other methods than `learn` raise
    `app.ledger.backing.BackingUnavailable` when PostgreSQL is away.
    """

    @property
    def card(self) -> Card: ...

    async def learn(self, models: Iterable[str]) -> None:
        """Look once for those of the models that are not on the card; no I/O where all are."""
        ...

    async def put(self, model: str, base: str, price: str, ttl_seconds: int | None, by: str) -> Rate:
        """Make the next version; the latest one again, where it has the same values. `card` has it at once.

        Raises:
            CardFull: There is no room for another model.
        """
        ...

    async def latest(self, *, cursor: str | None, limit: int) -> RatePage:
        """The latest version of each model, by model id.

        Raises:
            app.reports.InvalidCursor: `cursor` is not one that a page of this listing gave.
        """
        ...

    async def versions(self, model: str, *, cursor: str | None, limit: int) -> RatePage:
        """All versions of a model, newest first.

        Raises:
            ModelNotFound: There is none.
            app.reports.InvalidCursor: `cursor` is not one that a page of this listing gave.
        """
        ...

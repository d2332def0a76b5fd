"""Amounts from units: by the rate card, or by the price that a reservation has frozen.

A request that names units first says of which models (`learn`), and then prices without waiting. What cannot
be priced is a `Problem`.
"""

from collections.abc import Iterable

from app.http.parts import Parts
from app.http.problems import Problem, invalid
from app.ledger.errors import LedgerUnavailable
from app.ledger.replies import Reservation
from app.rates import CardUnknown, ModelNotFound, NotAnAmount, Priced, reprice

TTL_SECONDS = 1800


async def learn(parts: Parts, models: Iterable[str]) -> None:
    """Have these models on the card, where they exist: one look at PostgreSQL, and none where all are there.

    Raises:
        app.ledger.backing.BackingUnavailable: Too many wait for such a look.
    """
    await parts.rates.learn(models)


def priced(parts: Parts, model: str, units: int | str) -> Priced:
    """What so many units of a model cost now. 400, 404, or 503 where only PostgreSQL can tell."""
    try:
        return parts.rates.card.price(model, units)
    except ModelNotFound:
        raise Problem("model_not_found", {}) from None
    except CardUnknown:
        raise _unknown() from None
    except ValueError as error:
        raise invalid(f"`units`: {error}.", field="units") from None


def ttl_seconds(parts: Parts, model: str | None) -> int:
    """How long a reservation that does not say holds its credits: as its model's row says, if it has one.

    A process that has never read the card does not guess: 503.
    """
    if model is None:
        return TTL_SECONDS
    try:
        rate = parts.rates.card.get(model)
    except CardUnknown:
        raise _unknown() from None
    return TTL_SECONDS if rate is None or rate.ttl_seconds is None else rate.ttl_seconds


def repriced(reservation: Reservation, units: int | str) -> int:
    """What so many units cost by the price that the reservation has frozen, whatever the card says by now."""
    if reservation.price is None:
        raise invalid("`units`: the reservation was made without a price. Name an amount.", field="units")
    try:
        return reprice(reservation.price, units)
    except NotAnAmount as error:
        raise invalid(f"`units`: {error}. Amount 0, or cancel, releases all.", field="units") from None
    except ValueError as error:
        raise invalid(f"`units`: {error}.", field="units") from None


def _unknown() -> LedgerUnavailable:
    return LedgerUnavailable(cause="rate_card")

"""The rate card over HTTP: what the work of each model costs, in versions, and what so many units would."""

from typing import Annotated

from litestar import Controller, put
from litestar.params import JSONBody
from msgspec import UNSET, Meta, Struct, UnsetType

from app.http import pricing, shapes
from app.http.answers import Time
from app.http.bodies import Body, given
from app.http.problems import Problem
from app.http.queries import Query
from app.http.routes import operating, reading
from app.http.times import iso, milliseconds
from app.http.wire import Answer, LedgerRequest
from app.rates import MODELS_MAX, CardFull, ModelNotFound, Priced, Rate, RatePage, canonical

Number = Annotated[str, Meta(description="A decimal number in its shortest form.")]


class ModelsQuery(Query):
    """The latest version of each model, or all versions of one."""

    integers = frozenset({"limit"})

    model_id: shapes.ModelId | UnsetType = UNSET
    cursor: (
        Annotated[str, Meta(max_length=512, description="`nextCursor` of the page before.")] | UnsetType
    ) = UNSET
    limit: shapes.Limit = 50


class RateBody(Body, kw_only=True):
    """What a model costs from now on: credits = ceil(base + units x price)."""

    model_id: shapes.ModelId
    base: shapes.Decimal
    price: shapes.Decimal
    ttl_seconds: shapes.TtlSeconds | UnsetType = UNSET

    def __post_init__(self) -> None:
        for name, value in (("base", self.base), ("price", self.price)):
            try:
                canonical(value)
            except ValueError as error:
                raise ValueError(f"`{name}`: {error}") from None


class QuoteBody(Body, kw_only=True):
    """Units of a model that would be paid for."""

    model_id: shapes.ModelId
    units: shapes.Decimal


class RateShown(Struct, rename="camel", kw_only=True):
    """A version of a model's row. It never changes."""

    model_id: str
    version: int
    base: Number
    price: Annotated[str, Meta(description="Of one unit: a decimal number in its shortest form.")]
    ttl_seconds: (
        Annotated[int, Meta(description="How long a reservation holds that does not say itself.")] | UnsetType
    ) = UNSET
    by: Annotated[str, Meta(description="Who put it there.")]
    at: Time


class RatesShown(Struct, rename="camel", kw_only=True):
    """The latest version of each model by model id, or all versions of one, newest first."""

    data: list[RateShown]
    next_cursor: str | None
    has_more: bool


class Quoted(Struct, rename="camel", kw_only=True):
    """What the units cost now, and by which version; credits = ceil(base + units x price)."""

    model_id: str
    units: Number
    credits: int
    version: int
    base: Number
    price: Number
    ttl_seconds: int | UnsetType = UNSET


class Models(Controller):
    """The rate card."""

    path = "/api/credits"
    tags = ("rate card",)

    @reading(
        "/models",
        name="models",
        query=ModelsQuery,
        refusals=("invalid_cursor", "model_not_found"),
        summary="The rate card, or the versions of one model",
    )
    async def models(self, request: LedgerRequest) -> Answer[RatesShown]:
        """The latest version of each model by model id; with `modelId` its versions, newest first."""
        return Answer(_page(await _rates(request, request.asked(ModelsQuery))))

    @operating(
        "/models",
        RateBody,
        name="putModel",
        route=put,
        status=200,
        refusals=("limit_reached",),
        summary="Say what a model costs from now on",
    )
    async def put_model(self, data: JSONBody[RateBody], request: LedgerRequest) -> Answer[RateShown]:
        """The next version; the same values again make none. What is reserved keeps the price it has."""
        return Answer(_shown(await _put(request, data)))

    @operating(
        "/quote",
        QuoteBody,
        name="quote",
        scope="spend",
        status=200,
        refusals=("model_not_found",),
        summary="What so many units of a model cost",
    )
    async def quote(self, data: JSONBody[QuoteBody], request: LedgerRequest) -> Answer[Quoted]:
        """Nothing is reserved, and the price may change before something is."""
        await pricing.learn(request.parts, (data.model_id,))
        return Answer(_quoted(pricing.priced(request.parts, data.model_id, data.units)))


async def _rates(request: LedgerRequest, query: ModelsQuery) -> RatePage:
    model, cursor = given(query.model_id), given(query.cursor)
    if model is None:
        return await request.parts.rates.latest(cursor=cursor, limit=query.limit)
    try:
        return await request.parts.rates.versions(model, cursor=cursor, limit=query.limit)
    except ModelNotFound:
        raise Problem("model_not_found", {}) from None


async def _put(request: LedgerRequest, data: RateBody) -> Rate:
    request.caller.concerns_all("The rate card is")
    values = data.model_id, canonical(data.base), canonical(data.price), given(data.ttl_seconds)
    try:
        return await request.parts.rates.put(*values, request.caller.principal.by)
    except CardFull:
        raise Problem("limit_reached", {"what": "models", "limit": MODELS_MAX}) from None


def _page(page: RatePage) -> RatesShown:
    return RatesShown(
        data=[_shown(rate) for rate in page.data],
        next_cursor=page.next_cursor,
        has_more=page.next_cursor is not None,
    )


def _shown(rate: Rate) -> RateShown:
    return RateShown(
        model_id=rate.model,
        version=rate.version,
        base=rate.base,
        price=rate.price,
        ttl_seconds=UNSET if rate.ttl_seconds is None else rate.ttl_seconds,
        by=rate.by,
        at=iso(milliseconds(rate.at)),
    )


def _quoted(priced: Priced) -> Quoted:
    return Quoted(
        model_id=priced.price.model,
        units=priced.price.units,
        credits=priced.credits,
        version=priced.price.version,
        base=priced.price.base,
        price=priced.price.price,
        ttl_seconds=UNSET if priced.ttl_seconds is None else priced.ttl_seconds,
    )

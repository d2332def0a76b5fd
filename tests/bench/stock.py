"""The usual way to write a Litestar handler, doing nothing: a struct in, a guard, a struct out."""

from typing import Any

from litestar import Litestar, get, post
from litestar.connection import ASGIConnection
from litestar.exceptions import NotAuthorizedException
from litestar.handlers import BaseRouteHandler
from litestar.params import JSONBody
from msgspec import Struct

from app.http.receipts import Moved, moved
from tests.bench.standins import InstantLedger


class Deduct(Struct, rename="camel"):
    """What is asked."""

    account_id: str
    amount: int
    model_id: str | None = None


async def with_a_key(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """Let in whoever brings a key."""
    if not connection.headers.get("authorization", "").startswith("Bearer lk_"):
        raise NotAuthorizedException


def create_stock_app() -> Litestar:
    """Answers a deduct with a receipt of the same shape and size as ours."""
    ready = InstantLedger().receipt
    answer = moved(ready)

    @post("/api/credits/deduct", guards=[with_a_key])
    async def deduct(data: JSONBody[Deduct]) -> Moved:
        return answer

    @get("/health/ready")
    async def is_ready() -> dict[str, str]:
        return {"status": "ready"}

    return Litestar([deduct, is_ready], logging_config=None)

"""What went wrong, as a page. What it is, `app.http.handlers` decides; only the look is decided here."""

from typing import Any, cast

from litestar import Request
from litestar.types import ExceptionHandlersMap

from app.dashboard.pages import PageRequest, shown
from app.dashboard.visitor import Visitor
from app.http.handlers import HANDLERS
from app.http.wire import Answer


def _as_page(request: Request[Any, Any, Any], error: Exception) -> Answer[bytes]:
    kind = next(each for each in type(error).__mro__ if each in HANDLERS)
    told = cast("Answer[dict[str, Any]]", HANDLERS[kind](request, error))
    request.scope.setdefault("visitor", Visitor(b""))  # type: ignore[typeddict-item]
    page = shown(
        PageRequest(request.scope), "mistake.html", told.status_code or 500, {"problem": told.content}
    )
    page.more = [*page.more, *told.more]
    return page


AS_PAGES: ExceptionHandlersMap = dict.fromkeys(HANDLERS, _as_page)

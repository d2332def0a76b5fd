"""API keys: who may ask, and for what; made, shown once, and revoked."""

from datetime import timedelta
from typing import Annotated

from litestar import Controller
from litestar.params import FromPath
from msgspec import Meta

from app.access import Scope
from app.api_keys import ApiKey, KeyNotFound, KeyRefused
from app.dashboard.doing import Did, Doing
from app.dashboard.pages import PageRequest, form, once, page, see
from app.dashboard.showing import link
from app.http.problems import Problem
from app.http.shapes import AccountId, uuid
from app.http.wire import Answer
from app.operators import Asked

HERE = "/dashboard/alerts/keys"
ABOUT = "keys"
KEYS_SHOWN = 500
SENT_BEFORE = "this form was sent before, and what came of it stands below"
WHAT_SCOPES_DO: dict[Scope, str] = {
    "spend": "deduct, reserve, confirm, cancel, extend, and read",
    "grant": "grant and refund",
    "read": "read balances, history and monitoring",
    "operate": "adjust, change settings, reconcile, open this dashboard, and read",
}


class MakeForm(Doing):
    """A key to be made. `days`: for how many it is in force, for good if left out."""

    name: Annotated[str, Meta(max_length=64, pattern=r"^[^\x00-\x1f]*$(?!\n)")]
    spend: bool = False
    grant: bool = False
    read: bool = False
    operate: bool = False
    account: AccountId | None = None
    days: Annotated[int, Meta(ge=1, le=3650)] | None = None

    @property
    def scopes(self) -> list[str]:
        """Those that were ticked."""
        return [each for each in WHAT_SCOPES_DO if getattr(self, each)]


class ApiKeyPages(Controller):
    """Keys in force."""

    path = "/alerts/keys"

    @page("/")
    async def keys(self, request: PageRequest) -> Answer[bytes]:
        """All of them, and making one."""
        return await _all(request, did=request.asked(Did).did or None)

    @form("/")
    async def make(self, request: PageRequest) -> Answer[bytes]:
        """Make one. Its token stands in this answer and nowhere else."""
        given = request.sent(MakeForm)
        ends = request.now + timedelta(days=given.days) if given.days else None
        token = ""

        async def do() -> str:
            nonlocal token
            token = await request.parts.api_keys.create(given.name, given.scopes, given.account, ends)
            return "made"

        asked = Asked(
            key=given.once,
            act="make key",
            by=request.visitor.known.by,
            reason=given.reason,
            about=ABOUT,
            detail=f"{given.name[:64]}: {', '.join(given.scopes)}",
        )
        try:
            await request.by_hand(asked, do)
        except KeyRefused as error:
            return await _all(request, status=400, refused=str(error))
        if not token:
            return await _all(request, status=400, refused=SENT_BEFORE)
        return await _all(request, made=given.name, token=token)

    @page("/{key:str}")
    async def one(self, key: FromPath[str], request: PageRequest) -> Answer[bytes]:
        """A key, and what its end would mean."""
        return request.page("key.html", key=await _one(request, key), once=once(), what=WHAT_SCOPES_DO)

    @form("/{key:str}")
    async def revoke(self, key: FromPath[str], request: PageRequest) -> Answer[bytes]:
        """End it, everywhere within seconds."""
        given, found = request.sent(Doing), await _one(request, key)

        async def do() -> str:
            try:
                await request.parts.api_keys.revoke(found.id)
            except KeyNotFound:
                return "it was no longer in force"
            return "revoked"

        by = request.visitor.known.by
        asked = Asked(
            key=given.once, act="revoke key", by=by, reason=given.reason, about=ABOUT, detail=found.name
        )
        return see(link(HERE, did=await request.by_hand(asked, do)))


async def _all(request: PageRequest, *, status: int = 200, **shown: object) -> Answer[bytes]:
    """The keys, and what `shown` says of the form that was sent last."""
    keys = await request.parts.api_keys.listed()
    return request.page(
        "keys.html",
        status=status,
        keys=keys[-KEYS_SHOWN:],
        every=len(keys),
        what=WHAT_SCOPES_DO,
        actions=await request.actions(about=ABOUT),
        once=once(),
        **{"did": None, "made": "", "token": "", "refused": ""} | shown,
    )


async def _one(request: PageRequest, key: str) -> ApiKey:
    id_ = uuid(key, "key")
    for each in await request.parts.api_keys.listed():
        if each.id == id_:
            return each
    raise Problem("not_found", {})

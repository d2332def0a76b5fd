"""What is done to credits by hand goes through the operations that the API asks for, and no others.

A form is sent twice: first to see what would happen, then, with a key of its own (`once`), to have it done.
"""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from app.dashboard.doing import Why
from app.dashboard.pages import PageRequest, once
from app.dashboard.previews import Preview
from app.http.bodies import Asking, Body, Stamp, sealed
from app.http.lookups import Lookups
from app.http.shapes import Key
from app.http.wire import Answer
from app.ledger.operations import Configure, Write
from app.ledger.receipts import Configured, Receipt, fingerprint

W = TypeVar("W", bound=Write)


class ByHand(Struct, kw_only=True):
    """What each of these forms carries; `once` only when it is meant."""

    reason: Why
    once: Key | None = None


def preview(
    request: PageRequest, found: Preview, back: str, account: str, reservation: str | None = None
) -> Answer[bytes]:
    """What would happen to whom, and the form once more."""
    return request.page(
        "preview.html",
        preview=found,
        back=back,
        account=account,
        reservation=reservation,
        fields=request.scope["form"],  # type: ignore[typeddict-item]
        once=once(),
    )


def operation(request: PageRequest, form: ByHand, body: Asking) -> Any:
    """What the body asks of the ledger, by who is signed in, with the reason beside it."""
    stamp = Stamp(request.visitor.known.by, form.once, body.fingerprint())
    return _reasoned(body.operation(stamp, Lookups(request.parts, request.caller)), form)


def configuring(request: PageRequest, form: ByHand, account: str, body: Body) -> Configure:
    """The same for settings, whose body has no key."""
    asked: Configure = body.operation(request.visitor.known.by, account)  # type: ignore[attr-defined]
    return _reasoned(replace(asked, key=form.once, fingerprint=fingerprint("configure", body)), form)


def _reasoned(asked: W, form: ByHand) -> W:
    notes, notes_hash = sealed(form.reason)
    return replace(asked, notes=notes, notes_hash=notes_hash)


def asking(verb: Callable[[W], Awaitable[Receipt | Configured]], asked: W) -> Callable[[], Awaitable[str]]:
    """Asks the ledger; what is told of it is the transaction."""

    async def do() -> str:
        done = await verb(asked)
        receipt = done.receipt if isinstance(done, Configured) else done
        return "nothing to change" if receipt is None else str(receipt.transaction)

    return do

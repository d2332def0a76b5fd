"""What forms about the service carry, as opposed to those about credits: why, and a name of their own."""

from typing import Annotated

from msgspec import Meta, Struct

from app.http.queries import Query
from app.http.shapes import Key, Reason

Why = Annotated[Reason, Meta(min_length=1)]


class Did(Query):
    """The row of the audit that the last form made."""

    integers = frozenset({"did"})

    did: int = 0


class Doing(Struct, kw_only=True):
    """Why it is done. `once`: the form's own name, so that one that is sent twice is one action."""

    reason: Why
    once: Key

"""What all bodies have in common: how they are read, and how they become an operation.

A field that may be left out is never `null`. Fields of capabilities that are not built are unknown here, and
so refused. The bodies themselves are in `crediting`, `spending` and `settling`.
"""

from functools import cache
from typing import ClassVar, NamedTuple, TypeVar

from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import fields

from app.access import Scope
from app.http import shapes
from app.http.lookups import Lookups
from app.ledger.entries import seal
from app.ledger.operations import Write
from app.ledger.receipts import fingerprint

T = TypeVar("T")


class Stamp(NamedTuple):
    """Who asks, and under which key. `key` and `fingerprint` come together or not at all."""

    by: str
    key: str | None
    fingerprint: str | None


def given(value: T | UnsetType) -> T | None:
    """The value, or `None` where it was left out."""
    return None if value is UNSET else value


class Body(Struct, forbid_unknown_fields=True, omit_defaults=True, rename="camel", gc=False):
    """What is asked in a request."""


class Asking(Body):
    """What is asked of the ledger. Its JSON without defaults is what the fingerprint is made of.

    `scope`: who may ask it; `success`: the status when it was done.
    """

    verb: ClassVar[str]
    scope: ClassVar[Scope]
    success: ClassVar[int]

    def whose(self) -> str | UnsetType:
        """The account that it names."""
        return getattr(self, "account_id", UNSET)

    def unkeyed(self) -> None:
        """Called when it comes without a key. Raises a `Problem` where it must not."""

    def wants(self, stamp: Stamp, lookups: Lookups) -> None:
        """Say what must be looked up before there can be an operation."""

    def operation(self, stamp: Stamp, lookups: Lookups) -> Write:
        """What the ledger is asked. Raises `LedgerError` or `Problem` where something was not found."""
        raise NotImplementedError

    def fingerprint(self) -> str:
        """The same for a default that is named and one that is left out."""
        for name, default in _defaults(type(self)):
            if getattr(self, name) == default:
                setattr(self, name, default)  # msgspec leaves out what is the default, not what equals it
        return fingerprint(self.verb, self)


@cache
def _defaults(of: type[Asking]) -> list[tuple[str, object]]:
    return [
        (field.name, field.default)
        for field in fields(of)
        if not field.required and field.default is not UNSET
    ]


class Noted(Asking, kw_only=True):
    """A body with personal text beside it."""

    reason: shapes.Reason | UnsetType = UNSET
    metadata: shapes.Metadata | UnsetType = UNSET

    def __post_init__(self) -> None:
        if self.metadata is not UNSET:
            shapes.check_metadata(self.metadata)

    def seal(self, resource: str | None = None) -> tuple[str | None, str | None]:
        """The notes and their hash."""
        if self.reason is UNSET and self.metadata is UNSET and resource is None:
            return None, None
        return sealed(given(self.reason), resource, given(self.metadata))


def sealed(
    reason: str | None, resource: str | None = None, metadata: dict[str, str] | None = None
) -> tuple[str | None, str | None]:
    """The notes of an operation and their hash; `None` twice where there is nothing to note."""
    notes = seal(reason, resource, metadata)
    return (notes.text, notes.hash) if notes else (None, None)

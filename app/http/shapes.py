r"""The shapes of single fields, and what is said when a value does not have one.

A pattern ends in `$(?!\n)` because Python's `$` alone would let a line break through; the same text is valid
in the OpenAPI document.
"""

import re
from collections.abc import Iterator
from datetime import datetime
from functools import cache
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct, UnsetType, ValidationError

from app.http.problems import Problem, invalid
from app.ledger.credits import CREDITS_MAX
from app.reports import PAGE_MAX

_ACCOUNT = r"^[A-Za-z0-9._:@+-]{1,128}$(?!\n)"
_NAME = r"^[A-Za-z0-9._:@+/-]{1,64}$(?!\n)"
_PROVIDER = r"^[A-Za-z0-9._-]{1,64}$(?!\n)"
_PRINTABLE = r"^[ -~]{1,255}$(?!\n)"
_TEXT = r"^[^\x00-\x1f]*$(?!\n)"
_DECIMAL = r"^(0|[1-9][0-9]{0,15})(\.[0-9]{1,6})?$(?!\n)"
_TRANSACTION = r"^(0|[1-9][0-9]{0,3})-(0|[1-9][0-9]{0,14})-[1-9][0-9]{0,15}$(?!\n)"
_UUID = r"^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$(?!\n)"

_WORDS = {
    _ACCOUNT: "1 to 128 of ASCII letters, digits and . _ : @ + -",
    _NAME: "1 to 64 of ASCII letters, digits and . _ : @ + - /",
    _PROVIDER: "1 to 64 of ASCII letters, digits and . _ -",
    _PRINTABLE: "1 to 255 printable ASCII characters",
    _TEXT: "text without control characters (U+0000 to U+001F)",
    _DECIMAL: "a decimal number of at most 6 places",
    _TRANSACTION: "a transaction id, <shard>-<incarnation>-<sequence>",
    _UUID: "a UUID",
}
_SAID = {repr(pattern)[1:-1]: words for pattern, words in _WORDS.items()}
"""msgspec quotes patterns as `repr` does."""

METADATA_PAIRS_MAX = 16
METADATA_BYTES_MAX = 1024
OVERDRAFT = "overdraft"

Amount = Annotated[int, Meta(ge=1, le=CREDITS_MAX, description="Whole credits.")]
Captured = Annotated[
    int, Meta(ge=0, le=CREDITS_MAX, description="Whole credits; 0 releases all that is held.")
]
Signed = Annotated[
    int,
    Meta(ge=-CREDITS_MAX, le=CREDITS_MAX, description="Whole credits: added above 0, taken below. Never 0."),
]
Rollover = Annotated[
    int,
    Meta(
        ge=0,
        le=CREDITS_MAX,
        description="So many at most of the bucket's credits that lapse earlier move along to the new lot.",
    ),
]
Decimal = (
    Annotated[int, Meta(ge=0, le=CREDITS_MAX, description="A whole number.")]
    | Annotated[str, Meta(pattern=_DECIMAL, description="A decimal number of at most 6 places.")]
)
"""Never a float: how it is written is what it is."""
OverdraftLimit = Annotated[
    int, Meta(ge=0, le=CREDITS_MAX, description="How far below zero `available` may go; 0: not at all.")
]
LowBalance = Annotated[
    int,
    Meta(ge=0, le=CREDITS_MAX, description="Whoever watches is told when less is available; 0: never."),
]
Status = Literal["active", "frozen", "closed"]
OverCapture = Literal["reject", "cap", "charge"]
OnExpired = Literal["reject", "charge"]
AccountId = Annotated[
    str, Meta(pattern=_ACCOUNT, description="Who owns the credits: " + _WORDS[_ACCOUNT] + ".")
]
Bucket = Annotated[str, Meta(pattern=_NAME, description="A named pot inside the account.")]
ModelId = Annotated[str, Meta(pattern=_NAME, description="What the credits are for.")]
Provider = Annotated[
    str, Meta(pattern=_PROVIDER, description="Whose task it is; task ids are unique per provider.")
]
TaskId = Annotated[str, Meta(pattern=_PRINTABLE, description="The provider's id of the job.")]
ResourceId = Annotated[str, Meta(pattern=_PRINTABLE, description="The caller's id of what the job makes.")]
TransactionId = Annotated[str, Meta(pattern=_TRANSACTION, description="As an answer gave it.")]
Key = Annotated[str, Meta(pattern=_PRINTABLE, description="The Idempotency-Key of this one.")]
ReservationId = Annotated[str, Meta(pattern=_UUID, description="As a reserve answered it.")]
Uuid = Annotated[str, Meta(pattern=_UUID, description="As an answer gave it.")]
Priority = Annotated[int, Meta(ge=0, le=1_000_000, description="Lower is spent first; new buckets have 100.")]
TtlSeconds = Annotated[int, Meta(ge=1, le=86_400, description="How long the credits stay held.")]
Reason = Annotated[str, Meta(pattern=_TEXT, max_length=500, description="For people; erasable.")]
Metadata = Annotated[
    dict[Annotated[str, Meta(pattern=_TEXT, min_length=1)], Annotated[str, Meta(pattern=_TEXT)]],
    Meta(
        max_length=METADATA_PAIRS_MAX,
        description="A flat object of strings, at most 1 KiB together; erasable.",
    ),
]

Limit = Annotated[int, Meta(ge=1, le=PAGE_MAX, description="How many at most.")]
Instant = Annotated[datetime, Meta(tz=True, description="RFC 3339, with any offset.")]

_MATCHING = re.compile(r"matching regex '(.+)'", re.DOTALL)
_AT = re.compile(r" - at `(?:key` in `)?\$\.?(.*)`$", re.DOTALL)
_NAMED = re.compile(r"(?:unknown|required) field `(.+)`$", re.DOTALL)
_OF_FIELD = re.compile(r"`([A-Za-z]+)`: (.*)", re.DOTALL)
"""How a body says which of its fields is wrong."""
_NO_CHOICE = re.compile(r"Invalid (?:enum )?value ('.*')", re.DOTALL)
_NO_TIME = re.compile(r"Invalid RFC3339 encoded datetime|Expected `datetime` with a timezone component")
_TIME = "a date, a time and an offset, such as 2100-01-31T00:00:00Z or 2100-01-31T01:00:00+01:00"


def check_metadata(metadata: dict[str, str] | UnsetType) -> None:
    """Refuse more than 1 KiB of keys and values together, as UTF-8."""
    if metadata:
        size = sum(len(key.encode()) + len(value.encode()) for key, value in metadata.items())
        if size > METADATA_BYTES_MAX:
            raise ValueError(f"`metadata`: {size} bytes together, and it may have {METADATA_BYTES_MAX}")


def check_bucket(bucket: str | UnsetType) -> None:
    """Refuse the bucket of debts: only the ledger puts something there."""
    if bucket == OVERDRAFT:
        raise ValueError("`bucket`: overdraft is the place of debts; name another")


def account_id(text: str) -> str:
    """The id of an account in a path."""
    try:
        return msgspec.convert(text, AccountId)
    except ValueError as error:
        raise malformed(error, place="accountId") from None


def uuid(text: str, place: str) -> str:
    """An id in a path, in lower case. `place`: what it is called."""
    try:
        return msgspec.convert(text, Uuid).lower()
    except ValueError as error:
        raise malformed(error, place=place) from None


def malformed(
    error: ValueError | RecursionError, what: str = "body", place: str = "", of: type[Struct] | None = None
) -> Problem:
    """The problem that a decoder's error is: which field, why, and what would be right.

    `what`: the body, or the query; `place`: the field, where the error does not say it; `of`: what was to be
    read.
    """
    if not isinstance(error, ValidationError):
        why = (
            "it is not UTF-8"
            if isinstance(error, UnicodeError)
            else str(error).removeprefix("JSON is malformed: ")
        )
        return invalid(f"The {what} could not be read: {why}.")
    text = str(error)
    at = _AT.search(text)
    place, why = (at[1], text[: at.start()]) if at else (place, text)
    if found := _NAMED.search(why):
        inside = f" in `{place}`" if place else ""
        return invalid(f"{why}{inside}.", field=_within(place, found[1]))
    if found := _OF_FIELD.fullmatch(why):
        place, why = _within(place, found[1]), found[2]
    why = _MATCHING.sub(lambda match: "of " + _SAID.get(match[1], match[1]), why)
    if found := _NO_CHOICE.fullmatch(why):
        chosen = sorted(_choices(of, place.rpartition(".")[2].partition("[")[0])) if of is not None else []
        why = f"{found[1][:64]} is none of {', '.join(chosen)}" if chosen else why
    elif _NO_TIME.match(why):
        why = f"Expected {_TIME}" + (" (in a query a + is written %2B)" if what == "query" else "")
    return invalid(f"`{place}`: {why}.", field=place) if place else invalid(f"{why}.")


@cache
def _choices(of: type[Struct], name: str) -> frozenset[str]:
    """What a field, or each of its items, may be that is one of a few words, wherever in `of` it stands."""

    def enumerated() -> Iterator[str]:
        for shape in msgspec.json.schema_components([of])[1].values():
            field = shape.get("properties", {}).get(name, {})
            for each in (field, field.get("items", {}), *field.get("anyOf", ())):
                yield from each.get("enum", ())

    return frozenset(enumerated())


def _within(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name

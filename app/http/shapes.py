r"""The shapes of single fields, and what is said when a value does not have one.

A pattern ends in `$(?!\n)` because Python's `$` alone would let a line break through; the same text is valid
in the OpenAPI document.
"""

import re
from datetime import datetime
from typing import Annotated

from msgspec import Meta, UnsetType, ValidationError

from app.http.problems import Problem, invalid
from app.ledger.credits import CREDITS_MAX
from app.reports import PAGE_MAX

_ACCOUNT = r"^[A-Za-z0-9._:@+-]{1,128}$(?!\n)"
_NAME = r"^[A-Za-z0-9._:@+/-]{1,64}$(?!\n)"
_PROVIDER = r"^[A-Za-z0-9._-]{1,64}$(?!\n)"
_PRINTABLE = r"^[ -~]{1,255}$(?!\n)"
_TEXT = r"^[^\x00-\x1f]*$(?!\n)"
_UUID = r"^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$(?!\n)"

_WORDS = {
    _ACCOUNT: "1 to 128 of ASCII letters, digits and . _ : @ + -",
    _NAME: "1 to 64 of ASCII letters, digits and . _ : @ + - /",
    _PROVIDER: "1 to 64 of ASCII letters, digits and . _ -",
    _PRINTABLE: "1 to 255 printable ASCII characters",
    _TEXT: "text without control characters (U+0000 to U+001F)",
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
ReservationId = Annotated[str, Meta(pattern=_UUID, description="As a reserve answered it.")]
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

_MATCHING = re.compile(r"matching regex '(.+)'", re.DOTALL)
_AT = re.compile(r" - at `(?:key` in `)?\$\.?(.*)`$", re.DOTALL)
Limit = Annotated[int, Meta(ge=1, le=PAGE_MAX, description="How many at most.")]
Instant = Annotated[datetime, Meta(tz=True, description="RFC 3339, with any offset.")]

_FIELD = re.compile(r"(?:unknown|required) field `(.+)`$", re.DOTALL)


def check_metadata(metadata: dict[str, str] | UnsetType) -> None:
    """Refuse more than 1 KiB of keys and values together, as UTF-8."""
    if metadata:
        size = sum(len(key.encode()) + len(value.encode()) for key, value in metadata.items())
        if size > METADATA_BYTES_MAX:
            raise ValueError(f"metadata has {size} bytes together, and may have {METADATA_BYTES_MAX}")


def malformed(error: ValueError | RecursionError, what: str = "body") -> Problem:
    """The problem that a decoder's error is: which field, and why. `what`: the body, or the query."""
    if not isinstance(error, ValidationError):
        why = (
            "it is not UTF-8"
            if isinstance(error, UnicodeError)
            else str(error).removeprefix("JSON is malformed: ")
        )
        return invalid(f"The {what} could not be read: {why}.")
    text = str(error)
    if found := _FIELD.search(text):
        return invalid(f"{text}.", field=found[1])
    at = _AT.search(text)
    why = text[: at.start()] if at else text
    why = _MATCHING.sub(lambda match: "of " + _SAID.get(match[1], match[1]), why)
    return invalid(f"`{at[1]}`: {why}.", field=at[1]) if at and at[1] else invalid(f"{why}.")

"""What a credit is: a whole number that every layer carries exactly.

2^53 - 1 is the largest whole number below which a Lua number, a JSON number and a PostgreSQL bigint agree
digit by digit. Nothing here is ever a float.
"""

from typing import Annotated

from msgspec import Meta

CREDITS_MAX = 2**53 - 1

Credits = Annotated[int, Meta(ge=0, le=CREDITS_MAX)]
"""A balance or a sum: 0 .. 2^53 - 1."""

Amount = Annotated[int, Meta(ge=1, le=CREDITS_MAX)]
"""What one operation moves: 1 .. 2^53 - 1."""

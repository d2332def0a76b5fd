"""How a setting is described, and the name of its variable."""

from msgspec import Meta

PREFIX = "LASTRO_"


def variable(field: str) -> str:
    """`LASTRO_<FIELD>`."""
    return PREFIX + field.upper()


def left_out(default: str, description: str) -> Meta:
    """Of a text that may be left out; `default` is what happens then."""
    return Meta(description=description, extra={"default": default})

"""What Redis may have in the place of a text, as PostgreSQL can keep it."""


def as_text(found: bytes) -> str:
    """PostgreSQL takes no NUL and no broken UTF-8: both are spelt out."""
    return found.decode(errors="backslashreplace").replace("\0", "\\x00")

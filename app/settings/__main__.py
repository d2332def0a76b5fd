"""Prints the table of the README."""

from app.settings import table

print(table())  # noqa: T201 - this is its use

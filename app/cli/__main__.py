"""`python -m app.cli` is `lastro`."""

from app.cli import main

main()

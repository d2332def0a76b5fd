"""The API key with which a newcomer tries things out."""

import asyncio
from pathlib import Path

from app.access import SCOPES
from app.up.data import write_secret
from persistence import api_keys
from persistence.pool import open_pool

NAME = "development"


def development_key(database_url: str, file: Path) -> str:
    """The token kept in `file` while it is in force, else a new one with all scopes, kept there."""
    kept = file.read_text(encoding="utf-8").strip() if file.exists() else ""
    token = asyncio.run(_in_force(database_url, kept))
    if token != kept:
        write_secret(file, token + "\n")
    return token


async def _in_force(database_url: str, token: str) -> str:
    async with await open_pool(database_url, connections_max=1, name="lastro up") as pool:
        known = [key for key in await api_keys.listed(pool) if key.name == NAME]
        if any(token.startswith(f"lk_{key.prefix}_") for key in known):
            return token
        for key in known:  # its token is lost
            await api_keys.revoke(pool, key.id)
        return await api_keys.create(pool, NAME, SCOPES)

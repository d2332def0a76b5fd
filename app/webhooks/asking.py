"""How a task stands, asked of its provider with a key of its API. Changes nothing, at the provider or here.

An answer is read as the provider's webhook would be. Whatever is no answer about that task is none at all.
"""

import asyncio
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple
from urllib.parse import quote

import httpx
import structlog

from app.fetching import fetched
from app.webhooks import bfl, luma, runway, sync
from app.webhooks.event import Delivery, Event

ANSWER_SECONDS = 10.0
ANSWER_BYTES_MAX = 1024 * 1024
_RUNWAY_VERSION = "2024-11-06"

log = structlog.get_logger("lastro.webhooks")


class Asked(NamedTuple):
    """One who can be asked.

    Args:
        base: Where its API is.
        path: Of a task, whose id stands for `{}`.
        headers: By the API key.
        read: What it answers.
    """

    base: str
    path: str
    headers: Callable[[str], dict[str, str]]
    read: Callable[[Delivery], Event]


def _bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


ASKED: Mapping[str, Asked] = MappingProxyType(
    {
        "bfl": Asked("https://api.bfl.ai", "/v1/get_result?id={}", lambda key: {"x-key": key}, bfl.read),
        "luma": Asked("https://api.lumalabs.ai", "/dream-machine/v1/generations/{}", _bearer, luma.read),
        "runway": Asked(
            "https://api.dev.runwayml.com",
            "/v1/tasks/{}",
            lambda key: _bearer(key) | {"x-runway-version": _RUNWAY_VERSION},
            runway.read,
        ),
        "sync": Asked("https://api.sync.so", "/v2/generate/{}", lambda key: {"x-api-key": key}, sync.read),
    }
)


async def ask(
    provider: str, task: str, key: str, client: httpx.AsyncClient, *, base: str | None = None
) -> Event | None:
    """How the task stands; `None` where the provider does not say it, which the log explains.

    Args:
        provider: One of `ASKED`.
        task: The provider's id of the task.
        key: Of the provider's API. Sent to nobody else: redirects are not followed.
        client: Theirs who close it.
        base: Where the API is, if not where everybody's is.
    """
    asked = ASKED[provider]
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            return await _event(asked, task, key, client, base or asked.base)
    except (httpx.HTTPError, TimeoutError, ValueError) as error:
        why = str(error) or type(error).__name__
        log.warning("a provider does not say how a task stands", provider=provider, task=task, why=why)
        return None


async def _event(asked: Asked, task: str, key: str, client: httpx.AsyncClient, base: str) -> Event:
    url = base + asked.path.format(_segment(task))
    answer = await fetched(client, url, asked.headers(key), ANSWER_BYTES_MAX)
    event = asked.read(Delivery({}, answer))
    if event.task != task:
        raise ValueError("it answers about another task")
    return event


def _segment(task: str) -> str:
    """A task's id where only it may stand: none leads to another path, another query or another key."""
    if task in {".", ".."}:
        raise ValueError("such a task has no address")
    return quote(task, safe="")

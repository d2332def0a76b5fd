"""The heartbeat: whoever watches the watchmen is alarmed when it stays away."""

import asyncio
import logging
from http import HTTPStatus

import httpx

BEAT_SECONDS = 60.0
ANSWER_SECONDS = 10.0

_log = logging.getLogger(__name__)


class Heartbeat:
    """Its URL is a secret, which is logged nowhere. No redirect is followed, nothing of an answer is read."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._failed = False

    @property
    def is_wanted(self) -> bool:
        return bool(self._url)

    async def beat(self) -> bool:
        """Once. Whether it was taken."""
        try:
            async with (
                asyncio.timeout(ANSWER_SECONDS),
                httpx.AsyncClient(trust_env=False, follow_redirects=False, timeout=ANSWER_SECONDS) as client,
                client.stream("GET", self._url, headers={"user-agent": "Lastro"}) as response,
            ):
                status: int = response.status_code
                taken = HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES
                why = f"it answered {status}"
        except (httpx.HTTPError, httpx.InvalidURL, OSError, TimeoutError, ValueError) as error:
            taken, why = False, type(error).__name__
        if not taken and not self._failed:
            _log.warning("the heartbeat is not taken: %s", why)
        self._failed = not taken
        return taken

"""Public keys of somebody else, as a JWKS (RFC 7517): fetched now and then, kept while their source is away.

Says nothing about what a key is good for; whoever verifies with it does.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Annotated, Any
from urllib.parse import urlsplit

import httpx
import msgspec
import structlog
from msgspec import Meta, Struct

from app.fetching import fetched

KEEP_SECONDS = 86_400.0
AGAIN_SECONDS = 30.0
FIRST_AGAIN_SECONDS = 1.0
FETCH_SECONDS = 5.0
BYTES_MAX = 65_536
KEYS_MAX = 100
_HERE = ("localhost", "127.0.0.1", "::1")

log = structlog.get_logger("lastro.jwks")


class KeysUnavailable(Exception):
    """There are no keys yet: the source has not answered, or not with keys. It is asked again."""


class _Set(Struct):
    keys: Annotated[list[dict[str, Any]], Meta(min_length=1, max_length=KEYS_MAX)]


_decode = msgspec.json.Decoder(_Set).decode


def demand_source(source: str) -> None:
    """Refuse what is neither a URL that nobody on the way can answer for, nor a JWKS.

    Raises:
        ValueError: Says what would be right, and shows nothing of the source.
    """
    if source.startswith("{"):
        try:
            _decode(source)
        except msgspec.DecodeError as error:
            raise ValueError(f'is not a JWKS, `{{"keys": [...]}}`: {error}') from None
        return
    url = urlsplit(source)
    if not (url.hostname and (url.scheme == "https" or (url.scheme == "http" and url.hostname in _HERE))):
        raise ValueError(
            'should be https://..., http:// of this machine, or the JWKS itself, `{"keys": [...]}`'
        )


class Jwks:
    """The keys of one source. One for each process and source.

    Args:
        source: A URL, or the JWKS itself, which is then never asked for again.
        client: Theirs who close it; redirects are not followed, whatever it is set to.
        keep_seconds: After how long keys are asked for again; those that are gone then are no longer good.
        clock: Seconds, of which only differences count.
    """

    def __init__(
        self,
        source: str,
        client: httpx.AsyncClient,
        *,
        keep_seconds: float = KEEP_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        demand_source(source)
        self._url = None if source.startswith("{") else source
        self._client = client
        self._keep_seconds = keep_seconds
        self._clock = clock
        self._one_at_a_time = asyncio.Lock()
        self._keys: list[dict[str, Any]] | None = None if self._url else _decode(source).keys
        self._fetched_at = self._tried_at = float("-inf")

    async def keys(self, *, fresh: bool = False) -> list[dict[str, Any]]:
        """The keys, at most `keep_seconds` old while the source answers.

        Args:
            fresh: A key is missed: ask again, however young they are. The source is asked once in
                `AGAIN_SECONDS` at most, whoever misses keys, so that made-up key ids cost nothing.

        Raises:
            KeysUnavailable: There have never been any.
        """
        under_way = self._one_at_a_time.locked() and (fresh or self._keys is None)
        if under_way or self._wanting(fresh=fresh):
            async with self._one_at_a_time:
                if self._wanting(fresh=fresh):  # still, after whoever was first
                    await self._fetch()
        if self._keys is None:
            raise KeysUnavailable
        return self._keys

    def _wanting(self, *, fresh: bool) -> bool:
        if self._url is None:
            return False
        now = self._clock()
        again = FIRST_AGAIN_SECONDS if self._keys is None else AGAIN_SECONDS
        if now - self._tried_at < again:
            return False
        return fresh or now - self._fetched_at >= self._keep_seconds

    async def _fetch(self) -> None:
        self._tried_at = self._clock()
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                assert self._url is not None
                self._keys = _decode(await fetched(self._client, self._url, {}, BYTES_MAX)).keys
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, ValueError) as error:
            source = urlsplit(self._url or "").hostname  # the rest may hold a secret
            log.warning("keys could not be fetched", source=source, why=str(error) or type(error).__name__)
        else:
            self._fetched_at = self._tried_at

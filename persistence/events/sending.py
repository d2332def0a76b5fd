"""Sends an event once: signed, to an address that was looked at, and without following or reading anything.

Of the answer its status counts. Nothing of its body is read, and nothing that a receiver has written is kept.
"""

import asyncio
import ssl
from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple, Self

import httpx
from standardwebhooks import Webhook

from app.events import EndpointRefused
from persistence.events.addresses import Resolve, Resolver, addresses, read

ANSWER_SECONDS = 10.0
CONNECT_SECONDS = 4.0


class Letter(NamedTuple):
    """An event for an endpoint. `event` is its `webhook-id`."""

    event: str
    body: str
    url: str
    secret: str


class NotSent(Exception):
    """There was no answer; the text says why."""


class Sender:
    """Sends any number of letters at once. `async with` closes what it has opened.

    Args:
        private: Whether private addresses and plain HTTP are allowed.
        by: Resolves names; the machine's resolver if nothing else is given.
        answer_seconds: How long a receiver may take, from looking up its name to its answer.
    """

    def __init__(
        self, *, private: bool, by: Resolve | None = None, answer_seconds: float = ANSWER_SECONDS
    ) -> None:
        self._private = private
        self._by = by or Resolver()
        self._answer_seconds = answer_seconds
        # No proxies and no `.netrc` of this machine. No connection is used twice, because it would be found
        # again by its address, under which another name may have been.
        self._client = httpx.AsyncClient(
            verify=httpx.create_ssl_context(),
            trust_env=False,
            follow_redirects=False,
            timeout=httpx.Timeout(answer_seconds, connect=CONNECT_SECONDS),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def send(self, letter: Letter, now: datetime) -> int:
        """The status that was answered.

        Raises:
            NotSent: There is none.
        """
        try:
            async with asyncio.timeout(self._answer_seconds):
                return await self._send(letter, now)
        except EndpointRefused as error:
            raise NotSent(str(error)) from None
        except (TimeoutError, httpx.TimeoutException):
            raise NotSent(f"no answer within {self._answer_seconds:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise NotSent(_why(error)) from error

    async def _send(self, letter: Letter, now: datetime) -> int:
        url = read(letter.url, private=self._private)
        found = await addresses(url, private=self._private, by=self._by)
        for address in found[:-1]:
            try:
                return await self._post(url, address, letter, now)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                continue  # it has others
        return await self._post(url, found[-1], letter, now)

    async def _post(self, url: httpx.URL, address: str, letter: Letter, now: datetime) -> int:
        """To this address, and to whom the name is certified."""
        request = self._client.build_request(
            "POST",
            url.copy_with(host=address),
            content=letter.body.encode(),
            headers={
                "host": url.netloc.decode("ascii"),
                "content-type": "application/json",
                "user-agent": "Lastro",
                "webhook-id": letter.event,
                "webhook-timestamp": str(int(now.timestamp())),
                "webhook-signature": Webhook(letter.secret).sign(letter.event, now, letter.body),
            },
            extensions={"sni_hostname": url.raw_host.decode("ascii")},
        )
        response = await self._client.send(request, stream=True)
        await response.aclose()
        return response.status_code


def _why(error: Exception) -> str:
    """In our own words: what the other side has written stands in some of these errors."""
    if isinstance(error, httpx.ConnectError):
        is_tls = any(isinstance(each, ssl.SSLError) for each in _causes(error))
        return "its certificate is not good" if is_tls else "could not connect"
    if isinstance(error, httpx.ProtocolError):
        return "its answer is not HTTP"
    return "the connection broke"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__

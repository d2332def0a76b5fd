"""Tells people, by Apprise: e-mail, chats, pagers, whatever its URLs name.

Its URLs are secrets. They stand nowhere but in the settings: not in PostgreSQL, which knows a channel by the
beginning of a hash, and not in the log, so that what Apprise and the libraries below it log is not kept.
"""

import asyncio
import hashlib
import logging
import warnings
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, NamedTuple

from persistence.alerts.wording import Notice

if TYPE_CHECKING:
    from apprise import NotifyBase

SEND_SECONDS = 20.0

_log = logging.getLogger(__name__)

_LOOSE_TONGUES = ("apprise", "urllib3.connectionpool")
"""Loggers that name URLs."""


class Channel(NamedTuple):
    """One URL of the settings. `name` says which, and is no secret."""

    id: str
    name: str
    service: "NotifyBase | None"


class Channels:
    """All of them; made when they are used for the first time, because Apprise takes its time to load."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._urls = urls
        self._made: list[Channel] | None = None

    def __len__(self) -> int:
        return len(self._urls)

    @property
    def ids(self) -> list[str]:
        """Of each channel."""
        return [_id(url) for url in self._urls]

    async def tell(self, notice: Notice, but: Collection[str] = ()) -> dict[str, str | None]:
        """Tell everybody `but` those channels. By the id of each: why it failed, `None` where it did not.

        It returns within `SEND_SECONDS`, whatever hangs.
        """
        channels = [each for each in await self._channels() if each.id not in but]
        sent = await asyncio.gather(*(_send(each, notice) for each in channels))
        return {each.id: why for each, why in zip(channels, sent, strict=True)}

    async def names(self) -> dict[str, str]:
        """What to call each channel, by its id."""
        return {each.id: each.name for each in await self._channels()}

    async def _channels(self) -> list[Channel]:
        if self._made is None:
            self._made = await asyncio.to_thread(_load, self._urls)
        return self._made


def _id(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()[:12]


def _load(urls: Sequence[str]) -> list[Channel]:
    for name in _LOOSE_TONGUES:
        logging.getLogger(name).disabled = True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of its plugins, which it loads here
        import apprise  # noqa: PLC0415 (not for those who tell nobody)

        asset = apprise.AppriseAsset(app_id="Lastro", app_desc="Lastro", storage_mode="memory")
        made = []
        for number, url in enumerate(urls, start=1):
            service = apprise.Apprise.instantiate(url, asset=asset)
            if service is not None:
                service.redirects = False  # where it leads to is not where the secret was meant for
            name = f"{number} ({'not understood' if service is None else service.service_name})"
            made.append(Channel(_id(url), name, service))
    return made


async def _send(channel: Channel, notice: Notice) -> str | None:
    if channel.service is None:
        return "Apprise does not understand this URL."
    try:
        async with asyncio.timeout(SEND_SECONDS):
            sent = await asyncio.to_thread(
                channel.service.notify, title=notice.title, body=notice.body, body_format="text"
            )
    except TimeoutError:
        return f"No answer within {SEND_SECONDS:g} s."
    except Exception as error:  # noqa: BLE001 (of its plugins; their texts may name the URL)
        return f"Apprise failed ({type(error).__name__})."
    return None if sent else "It was not taken."

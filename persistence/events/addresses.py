"""Where events may be sent: never to what only this network reaches, unless that is allowed.

The URL comes from an operator, and what its name resolves to from whoever runs its DNS. So every address is
looked at when it is about to be connected to, and the connection goes to that very address.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from threading import Thread

import httpx

from app.events import ENDPOINTS_MAX, EndpointRefused

URL_MAX = 2000
PORT_MAX = 65_535

Address = IPv4Address | IPv6Address
Resolve = Callable[[str, int], Awaitable[list[str]]]
"""The addresses of a host, as texts. Raises `OSError` where it has none."""

_TRANSLATED = IPv6Network("64:ff9b::/96")
"""Of translators: the last 32 bits are an IPv4 address."""

_NEVER = (
    IPv4Network("192.0.0.0/24"),  # of protocols, and of a cloud that has its metadata there
    IPv6Network(
        "64:ff9b:1::/48"
    ),  # of translators here, who may have put the IPv4 address anywhere (RFC 8215)
    IPv6Network("3fff::/20"),  # of examples (RFC 9637)
    IPv6Network("fec0::/10"),  # of sites (RFC 3879)
)
"""Global to this Python, and yet not the public internet."""

_OF_CLOUDS = frozenset({IPv4Address("168.63.129.16")})
"""Global by its number, and yet what a virtual machine finds its own cloud at."""


def refuse(address: Address) -> None:
    """Refuse what is not an address of the public internet.

    Raises:
        EndpointRefused: Why.
    """
    address = _inside(address) or address
    is_other = address.is_multicast or address.is_reserved or any(address in each for each in _NEVER)
    if not address.is_global or is_other or address in _OF_CLOUDS:
        raise EndpointRefused(f"{address} is no address of the public internet")


def _inside(address: Address) -> IPv4Address | None:
    """The IPv4 address that an IPv6 address stands for."""
    if isinstance(address, IPv4Address):
        return None
    if address in _TRANSLATED:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    teredo = address.teredo
    return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else None)


def read(url: str, *, private: bool) -> httpx.URL:
    """The URL of an endpoint. `private`: addresses of private networks and plain HTTP are allowed.

    Raises:
        EndpointRefused: It is none, or not one to deliver to.
    """
    schemes = ("https", "http") if private else ("https",)
    try:
        read = httpx.URL(url)
        port = read.port
    except (httpx.InvalidURL, ValueError) as error:
        raise EndpointRefused(f"not a URL: {error}") from None
    if len(url) > URL_MAX or not url.isascii() or not url.isprintable() or " " in url:
        raise EndpointRefused(f"give at most {URL_MAX} printable ASCII characters without blanks")
    if read.scheme not in schemes or not read.host:
        raise EndpointRefused(f"give an absolute URL that begins with {' or '.join(schemes)}://")
    if read.userinfo or read.fragment:
        raise EndpointRefused("give a URL without a user, a password and a fragment")
    if port is not None and not 1 <= port <= PORT_MAX:
        raise EndpointRefused(f"a port is 1 to {PORT_MAX}")
    if not private:
        literal = _literal(read.host)
        if literal is not None:
            refuse(literal)
    return read


def _literal(host: str) -> Address | None:
    try:
        return ip_address(host.strip("[]"))
    except ValueError:
        return None


class Resolver:
    """The machine's resolver, which also reads `127.1` and `0x7f000001`.

    A name whose servers are silent keeps a thread for half a minute, whether anybody still waits or not. An
    event loop has four of them, for all that it connects to, and so these are others: one for each name.
    """

    def __init__(self) -> None:
        self._asked: dict[tuple[str, int], asyncio.Future[list[str]]] = {}

    async def __call__(self, host: str, port: int) -> list[str]:
        asked = self._asked.get((host, port))
        if asked is None:
            if len(self._asked) >= ENDPOINTS_MAX:
                raise OSError("too many names are being looked up")
            asked = self._asked[host, port] = asyncio.get_running_loop().create_future()
            asked.add_done_callback(partial(self._answered, (host, port)))
            Thread(target=_look_up, args=(host, port, asked), name="look-up", daemon=True).start()
        return await asyncio.shield(asked)

    def _answered(self, name: tuple[str, int], asked: "asyncio.Future[list[str]]") -> None:
        del self._asked[name]
        asked.exception()  # whoever asked may have gone; that is no reason to log it


def _look_up(host: str, port: int, asked: "asyncio.Future[list[str]]") -> None:
    answer: Callable[[], None]
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        answer = partial(asked.set_result, list(dict.fromkeys(str(address[0]) for *_, address in found)))
    except (OSError, UnicodeError) as error:
        answer = partial(asked.set_exception, error)
    with suppress(RuntimeError):  # the loop has ended
        asked.get_loop().call_soon_threadsafe(answer)


async def addresses(url: httpx.URL, *, private: bool, by: Resolve) -> list[str]:
    """What to connect to, in order. One address that may not be refuses them all.

    Raises:
        EndpointRefused: One of them is no public one, or there is none.
    """
    host = url.raw_host.decode("ascii")
    try:
        found = await by(host, url.port or (443 if url.scheme == "https" else 80))
    except (OSError, UnicodeError):
        found = []
    if not found:
        raise EndpointRefused(f"{host} does not resolve")
    if not private:
        for each in found:
            literal = _literal(each)
            if literal is None:  # with a zone: of this link alone
                raise EndpointRefused(f"{each} is no address of the public internet")
            refuse(literal)
    return found

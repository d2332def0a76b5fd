"""How often somebody may try to sign in. Keys cannot be guessed; this bounds what trying costs."""

import time
from collections.abc import Callable
from ipaddress import ip_address, ip_network

FAILURES_MAX = 10
SECONDS = 60.0
ADDRESSES_MAX = 10_000


class Attempts:
    """Failures of each address in one process. They are forgiven a minute after the first of them."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failed: dict[str, tuple[float, int]] = {}

    def wait_seconds(self, address: str) -> int:
        """0: it may try now."""
        since, failures = self._failed.get(_network(address), (0.0, 0))
        left = since + SECONDS - self._clock()
        return 0 if failures < FAILURES_MAX or left <= 0 else int(left) + 1

    def failed(self, address: str) -> None:
        """Count a failure. Whoever failed first makes room for others."""
        network, now = _network(address), self._clock()
        since, failures = self._failed.pop(network, (now, 0))
        self._failed[network] = (since, failures + 1) if now < since + SECONDS else (now, 1)
        if len(self._failed) > ADDRESSES_MAX:
            del self._failed[next(iter(self._failed))]


def _network(address: str) -> str:
    """Of IPv6 the half that is one customer's."""
    try:
        known = ip_address(address)
    except ValueError:
        return address
    return address if known.version == 4 else str(ip_network(f"{known}/64", strict=False))  # noqa: PLR2004

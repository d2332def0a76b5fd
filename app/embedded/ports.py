"""Free TCP ports on 127.0.0.1, below those that the system hands to clients (32768 and up on Linux)."""

import random
import socket

from app.embedded.processes import CannotStart

FIRST = 20_000
LAST = 32_000
_TRIES_MAX = 200


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen there now. Somebody else may be faster."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A port that is free now, drawn at random so that two who ask at once rarely get the same."""
    draw = random.SystemRandom()
    for _ in range(_TRIES_MAX):
        port = draw.randint(FIRST, LAST)
        if is_free("127.0.0.1", port):
            return port
    raise CannotStart(f"no free port found between {FIRST} and {LAST}")

"""Callback URLs that nobody can guess: what `reserve` hands out for one reservation, made of master secrets.

The first master makes tokens and secrets, all of them open doors, so that one can be replaced while jobs run.
A token is another message than a secret, so that neither tells the other, and is good for one provider: the
URL of one who signs opens nothing at the door of one who does not.
"""

import hashlib
import hmac
from collections.abc import Sequence


def secret(master: str, reservation: str) -> str:
    """What a provider signs the callbacks of this reservation with. `reservation` is in lower case."""
    return _hmac(master, reservation)


def token(master: str, provider: str, reservation: str) -> str:
    """The last part of the callback URL of this reservation."""
    return _hmac(master, f"callback:{provider}:{reservation}")


def opens(masters: Sequence[str], provider: str, reservation: str, given: str) -> bool:
    """Whether one of the masters has made this token. Takes as long whichever it is, or none."""
    right = [token(master, provider, reservation).encode() for master in masters]
    return sum(hmac.compare_digest(each, given.encode()) for each in right) > 0


def _hmac(master: str, message: str) -> str:
    return hmac.new(master.encode(), message.encode(), hashlib.sha256).hexdigest()

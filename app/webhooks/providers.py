"""Who calls back: how each proves itself and how it is read. `PROVIDERS` are those that run tasks."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Generic, TypeVar

from msgspec import Struct

from app.webhooks import bfl, fal, generic, heygen, kling, luma, replicate, sync
from app.webhooks.event import Delivery, Event, Unverified
from app.webhooks.schemes import STANDARD, UNSIGNED, Scheme, of_body, stamped

Said = TypeVar("Said")


class Provider(Struct, Generic[Said], frozen=True):
    """One who calls back.

    Args:
        name: As in the door's path.
        scheme: How it signs.
        read: What a proven delivery says. Raises `Unreadable`.
        handed_out: Whether it is given a secret of its own for each reservation, with the callback URL.
    """

    name: str
    scheme: Scheme
    read: Callable[[Delivery], Said]
    handed_out: bool = False

    def demand(self, secret: str) -> None:
        """Raises `ValueError`, which does not show it, for a secret that can prove nothing."""
        self.scheme.key(secret)

    def verify(self, delivery: Delivery, secrets: Sequence[str], now: float) -> None:
        """Raises `Unverified` unless one of these secrets signed it, and within 300 s where a time is signed.

        Args:
            delivery: As it came.
            secrets: All that count; of fal the `x` of its public keys.
            now: Unix time in seconds.
        """
        try:
            self.scheme.verify(delivery, [self.scheme.key(secret) for secret in secrets], now)
        except Unverified:
            raise
        except Exception as error:  # whatever is wrong with the check, nothing is let in
            raise Unverified(f"the check itself failed: {type(error).__name__}") from error

    def sign(self, body: bytes, secret: str, now: float, identity: str) -> dict[str, str]:
        """The headers that prove `body`, as the provider would send them.

        Args:
            body: What is sent.
            secret: Of fal the private key, base64url.
            now: Unix time in seconds.
            identity: Of the message; of fal the request id that the body names.
        """
        return self.scheme.sign(body, self.scheme.key(secret), now, identity)


PROVIDERS: Mapping[str, Provider[Event]] = MappingProxyType(
    {
        provider.name: provider
        for provider in (
            Provider("replicate", STANDARD, replicate.read),
            Provider("fal", fal.ED25519, fal.read),
            Provider("bfl", of_body("x-bfl-signature", before="sha256="), bfl.read, handed_out=True),
            Provider("kling", STANDARD, kling.read),
            Provider("sync", stamped("sync-signature"), sync.read),
            Provider("heygen", of_body("heygen-signature", "signature"), heygen.read),
            Provider("luma", UNSIGNED, luma.read),
            Provider("generic", STANDARD, generic.read, handed_out=True),
        )
    }
)

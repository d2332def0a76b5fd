"""Which doors are open, and to whom: `LASTRO_WEBHOOK_*` and `LASTRO_PUBLIC_URL`, read once. Opens nothing."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from msgspec import Struct

from app.webhooks import callback, units
from app.webhooks.event import Event
from app.webhooks.providers import PROVIDERS, Provider
from app.webhooks.schemes import UNSIGNED, as_text

if TYPE_CHECKING:
    from app.settings import Settings

STRIPE = "stripe"
CALLBACK = "callback"
MASTER_BYTES_MIN = 32

_MAY_BE_UNSIGNED = frozenset({"kling", "luma"})


class Callback(Struct, frozen=True):
    """Where a provider reports one reservation, and what it signs that with, if it is given a secret."""

    url: str
    secret: str | None


class Door(Struct, frozen=True):
    """One provider's.

    Args:
        provider: Whose.
        secrets: Those that are shared by all its deliveries; of fal there are none here.
        by_callback: Callback URLs count as proof: their tokens of a provider that signs nothing, a secret for
            each reservation of one that is handed it.
    """

    provider: Provider[Event]
    secrets: tuple[str, ...] = ()
    by_callback: bool = False

    @property
    def is_unsigned(self) -> bool:
        """Whether the token of its callback URL is all that proves a delivery."""
        return self.by_callback and not self.provider.handed_out


class Doors(Struct, frozen=True):
    """All of them by name, but for Stripe's, which has secrets only.

    Args:
        open: Those that are turned on.
        stripe: Stripe's secrets; none: it is off.
        fal_jwks: The keys of fal, as a URL or a JWKS.
        masters: Of which tokens and secrets are made.
        public_url: Where providers find this API, without a slash at its end.
    """

    open: Mapping[str, Door]
    stripe: tuple[str, ...] = ()
    fal_jwks: str = ""
    masters: tuple[str, ...] = ()
    public_url: str = ""

    @classmethod
    def of(cls, settings: "Settings") -> "Doors":
        """Those of the settings.

        Raises:
            ValueError: Names the variable and what would be right, and shows no secret.
        """
        masters = _masters(settings.webhook_master_secrets)
        found: dict[str, Door] = {}
        for name, provider in PROVIDERS.items():
            if name == "fal":
                continue
            given = _listed(getattr(settings, f"webhook_{name}_secrets"))
            if given:
                found[name] = _door(provider, given, masters)
        if settings.webhook_fal_jwks:
            from app.jwks import demand_source  # noqa: PLC0415 - what it needs takes long to import

            try:
                demand_source(settings.webhook_fal_jwks)
            except ValueError as error:
                raise ValueError(f"LASTRO_WEBHOOK_FAL_JWKS {error}") from None
            found["fal"] = Door(PROVIDERS["fal"])
        stripe = _listed(settings.webhook_stripe_secrets)
        _demand(STRIPE, stripe, as_text)
        return cls(found, stripe, settings.webhook_fal_jwks, masters, _public(settings.public_url))

    def __contains__(self, name: object) -> bool:
        return name in self.open or (name == STRIPE and bool(self.stripe))

    def callback(self, provider: str, reservation: str) -> Callback | None:
        """What is handed out for a reservation; `None` where the door is off, or nothing can be."""
        door = self.open.get(provider)
        if door is None or not self.masters or not self.public_url:
            return None
        master = self.masters[0]
        token = callback.token(master, provider, reservation)
        gets_secret = door.by_callback and door.provider.handed_out
        return Callback(
            f"{self.public_url}/api/webhooks/{provider}/{reservation}/{token}",
            callback.secret(master, reservation) if gets_secret else None,
        )


def read_units(text: str) -> dict[str, str]:
    """`LASTRO_WEBHOOK_UNITS` by provider.

    Raises:
        ValueError: Names the variable and what would be right.
    """
    try:
        return units.pointers(text, frozenset(PROVIDERS))
    except ValueError as error:
        raise ValueError(f"LASTRO_WEBHOOK_UNITS: {error}") from None


def _door(provider: Provider[Event], given: Sequence[str], masters: Sequence[str]) -> Door:
    variable = _variable(provider.name)
    secrets = tuple(each for each in given if each != CALLBACK)
    by_callback = len(secrets) < len(given)
    if by_callback and not (provider.handed_out or provider.name in _MAY_BE_UNSIGNED):
        raise ValueError(
            f"{variable}: `{CALLBACK}` is for bfl, generic, kling and luma; {provider.name} signs"
        )
    if by_callback and secrets and not provider.handed_out:
        raise ValueError(f"{variable}: either secrets, or `{CALLBACK}` and unsigned")
    if by_callback and not masters:
        raise ValueError(f"{variable}: `{CALLBACK}` needs LASTRO_WEBHOOK_MASTER_SECRETS")
    if secrets and provider.scheme is UNSIGNED:
        raise ValueError(f"{variable}: {provider.name} signs nothing, only `{CALLBACK}` can be set")
    _demand(provider.name, secrets, provider.demand)
    return Door(provider, secrets, by_callback)


def _demand(name: str, secrets: Sequence[str], demand: Callable[[str], object]) -> None:
    for number, each in enumerate(secrets, 1):
        try:
            demand(each)
        except ValueError as error:
            raise ValueError(f"{_variable(name)}: secret {number} {error}") from None


def _masters(text: str) -> tuple[str, ...]:
    masters = _listed(text)
    for number, each in enumerate(masters, 1):
        if len(each.encode()) < MASTER_BYTES_MIN:
            raise ValueError(
                f"LASTRO_WEBHOOK_MASTER_SECRETS: secret {number} should have at least {MASTER_BYTES_MIN}"
                " bytes, such as `openssl rand -hex 32` makes"
            )
    return masters


def _public(url: str) -> str:
    parts = urlsplit(url)
    if url and (parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment):
        raise ValueError(
            "LASTRO_PUBLIC_URL should be https://<host>, perhaps with a path, and nothing behind it"
        )
    return url.rstrip("/")


def _variable(name: str) -> str:
    return f"LASTRO_WEBHOOK_{name.upper()}_SECRETS"


def _listed(text: str) -> tuple[str, ...]:
    return tuple(filter(None, map(str.strip, text.split(","))))

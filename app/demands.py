"""What the settings demand of users' tokens (`app.tokens` verifies them)."""

from typing import TYPE_CHECKING

from msgspec import Struct

from app.access import VERBS

if TYPE_CHECKING:
    from app.settings import Settings

SECRET_BYTES_MIN = 32
HMAC = "HS256"

KTY = {
    "RS256": "RSA", "RS384": "RSA", "RS512": "RSA", "PS256": "RSA", "PS384": "RSA", "PS512": "RSA",
    "ES256": "EC", "ES384": "EC", "ES512": "EC", "EdDSA": "OKP",
}  # fmt: skip
"""What kind of key an algorithm takes. None that is symmetric: a JWKS is public."""


class Demands(Struct, frozen=True, kw_only=True):
    """What a token must be, and what it lets in to. One of `secrets` and `jwks`."""

    secrets: tuple[bytes, ...]
    jwks: str
    algorithms: tuple[str, ...]
    audience: str
    issuer: str
    claim: str
    verbs: frozenset[str]

    @classmethod
    def of(cls, settings: "Settings") -> "Demands | None":
        """What the settings name, all of it judged; `None`: no users' tokens are taken.

        Raises:
            ValueError: Names the variable and what would be right, and shows no secret.
        """
        jwks = settings.jwt_jwks_url
        if settings.jwt_secrets and jwks:
            raise ValueError(
                "LASTRO_JWT_SECRETS and LASTRO_JWT_JWKS_URL are both set: leave one of them out. Tokens are "
                "verified with secrets or with public keys, so that they cannot choose"
            )
        if jwks:
            from app.jwks import demand_source  # noqa: PLC0415 - what it needs takes long to import

            try:
                demand_source(jwks)
            except ValueError as error:
                raise ValueError(f"LASTRO_JWT_JWKS_URL {error}") from None
        demands = cls(
            secrets=_secrets(settings.jwt_secrets),
            jwks=jwks,
            algorithms=_algorithms(settings.jwt_algorithms) if jwks else (HMAC,),
            audience=settings.jwt_audience,
            issuer=settings.jwt_issuer,
            claim=settings.jwt_account_claim,
            verbs=_verbs(settings.user_scopes),
        )
        return demands if demands.secrets or jwks else None


def _verbs(text: str) -> frozenset[str]:
    named = _listed(text)
    for each in named:
        if each not in VERBS:
            why = (
                "would give the work away for nothing"
                if each in ("cancel", "confirm")
                else "is for API keys, or unknown"
            )
            raise ValueError(
                f"LASTRO_USER_SCOPES={text}: {each} {why}; users may be allowed {', '.join(sorted(VERBS))}"
            )
    return frozenset(named)


def _secrets(text: str) -> tuple[bytes, ...]:
    found = tuple(each.encode() for each in text.split(",")) if text else ()
    for number, secret in enumerate(found, 1):
        if len(secret) < SECRET_BYTES_MIN:
            raise ValueError(
                f"LASTRO_JWT_SECRETS: secret {number} of {len(found)} has {len(secret)} bytes; it should "
                f"have at least {SECRET_BYTES_MIN} (a comma stands between two)"
            )
    return found


def _algorithms(text: str) -> tuple[str, ...]:
    named = _listed(text)
    for each in named or [""]:
        if each not in KTY:
            raise ValueError(
                f"LASTRO_JWT_ALGORITHMS={text}: {each or 'nothing'} is none of {', '.join(KTY)} "
                "(HS256 is that of LASTRO_JWT_SECRETS)"
            )
    return tuple(named)


def _listed(text: str) -> list[str]:
    return [each.strip() for each in text.split(",")] if text.strip() else []

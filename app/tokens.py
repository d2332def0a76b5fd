"""Users' tokens: JWTs (RFC 7519) of whoever lets users in, verified with secrets or with the keys of a JWKS.

What a token says about how it is to be verified is not believed: the algorithm is the configuration's, and a
key verifies with the algorithm that it is for. A token that was verified is known until it ends, or for
`KEEP_SECONDS`, and then verified again, so that a key that was withdrawn is soon good for nothing.
"""

import re
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jwt
import structlog
from jwt.exceptions import InvalidSignatureError, PyJWTError
from msgspec import Struct

from app.access import VERBS, Principal
from app.jwks import Jwks, KeysUnavailable, demand_source
from app.ledger.errors import LedgerUnavailable
from app.sparing import Sparing

if TYPE_CHECKING:
    from app.settings import Settings

LEEWAY_SECONDS = 60
KEEP_SECONDS = 600.0
KNOWN_MAX = 10_000
TOKEN_BYTES_MAX = 8_192
ACCOUNTS_MAX = 100
SECRET_BYTES_MIN = 32
LINES_PER_SECOND = 1
HMAC = "HS256"

_KTY = {
    "RS256": "RSA", "RS384": "RSA", "RS512": "RSA", "PS256": "RSA", "PS384": "RSA", "PS512": "RSA",
    "ES256": "EC", "ES384": "EC", "ES512": "EC", "EdDSA": "OKP",
}  # fmt: skip
"""What kind of key an algorithm takes. None that is symmetric: a JWKS is public."""
_TOKEN = re.compile(rb"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", re.ASCII)
_WRONG = (PyJWTError, TypeError, ValueError, OverflowError, RecursionError)
"""With which a token may be refused; PyJWT lets pass what `int` and `json` raise of strange claims."""
_SUBJECT = re.compile(r"[!-~]{1,128}", re.ASCII)
_ACCOUNT = re.compile(r"[A-Za-z0-9._:@+-]{1,128}", re.ASCII)

log = structlog.get_logger("lastro.tokens")


class _Refused(Exception):
    """Why a token lets nobody in: for the log, never for whoever sent it."""


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
        if each not in _KTY:
            raise ValueError(
                f"LASTRO_JWT_ALGORITHMS={text}: {each or 'nothing'} is none of {', '.join(_KTY)} "
                "(HS256 is that of LASTRO_JWT_SECRETS)"
            )
    return tuple(named)


def _listed(text: str) -> list[str]:
    return [each.strip() for each in text.split(",")] if text.strip() else []


class Tokens:
    """`app.access.Keys` of users. One for each API process.

    Args:
        demands: What a token must be.
        jwks: The keys of `demands.jwks`, where it names some.
        clock: Seconds since 1970.

    A dict is looked up by a hash under a random seed of this process before bytes are compared, so that the
    time of a look-up tells nothing about the tokens in it. Signatures are compared by PyJWT: those of secrets
    with `hmac.compare_digest`, and to verify with public keys needs nothing secret.
    """

    def __init__(
        self, demands: Demands, jwks: Jwks | None = None, *, clock: Callable[[], float] = time.time
    ) -> None:
        assert (jwks is None) == (not demands.jwks), "keys for demands that name some, and for no others"
        self._demands = demands
        self._jwks = jwks
        self._clock = clock
        self._scopes = frozenset({"read", *demands.verbs})
        self._known: dict[bytes, tuple[Principal, float]] = {}
        self._lines = Sparing(LINES_PER_SECOND)

    def known(self, authorization: bytes) -> Principal | None:
        """The principal of a token that was verified lately."""
        found = self._known.get(authorization)
        if found is None:
            return None
        principal, until = found
        if until > self._clock():
            return principal
        self._known.pop(authorization, None)
        return None

    async def authenticate(self, authorization: bytes) -> Principal | None:
        """The principal of a token; `None`: it is none, is not genuine, is out of time, or not for us.

        Why, is said in the log.

        Raises:
            LedgerUnavailable: The keys could not be fetched.
        """
        scheme, _, token = authorization.partition(b" ")
        token = token.strip(b" ")
        if scheme.lower() != b"bearer" or len(token) > TOKEN_BYTES_MAX or not _TOKEN.fullmatch(token):
            return None
        try:
            claims = await self._verified(token)
            principal = self._principal(claims)
        except _Refused as refused:
            if self._lines.lets_through():
                log.info("a user's token was refused", why=str(refused), unsaid=self._lines.since_last())
            return None
        now = self._clock()
        until = min(int(claims["exp"]) + LEEWAY_SECONDS, now + KEEP_SECONDS)
        self._known[b"Bearer " + token] = principal, until
        if len(self._known) > KNOWN_MAX:
            del self._known[next(iter(self._known))]
        return principal

    async def _verified(self, token: bytes) -> dict[str, Any]:
        """Raises `_Refused`."""
        if self._jwks is None:
            return self._claims(token, [(secret, HMAC) for secret in self._demands.secrets])
        try:
            header = jwt.get_unverified_header(token)
        except _WRONG as error:
            raise _Refused(_why(error)) from None
        algorithm, kid = header.get("alg"), header.get("kid")
        if algorithm not in self._demands.algorithms:
            raise _Refused("its alg is none of LASTRO_JWT_ALGORITHMS")
        try:
            fitting = _fitting(await self._jwks.keys(), algorithm, kid)
            if not fitting:  # issued since, perhaps
                fitting = _fitting(await self._jwks.keys(fresh=True), algorithm, kid)
        except KeysUnavailable:
            raise LedgerUnavailable(cause="token_keys") from None
        if not fitting:
            raise _Refused("none of the keys of LASTRO_JWT_JWKS_URL has its kid and its alg")
        return self._claims(token, [(key, algorithm) for key in fitting])

    def _claims(self, token: bytes, keys: Sequence[tuple[Any, str]]) -> dict[str, Any]:
        """What a token says, if one of the keys has signed it and all that is demanded holds.

        Raises:
            _Refused: What the key that has signed it was not content with, if one has.
        """
        demands = self._demands
        why: Exception = InvalidSignatureError("Signature verification failed")
        for key, algorithm in keys:
            try:
                return jwt.decode(
                    token,
                    key,
                    algorithms=[algorithm],
                    audience=demands.audience or None,
                    issuer=demands.issuer or None,
                    leeway=LEEWAY_SECONDS,
                    options={
                        "require": ["exp", "sub"],
                        "verify_aud": bool(demands.audience),
                        "verify_iss": bool(demands.issuer),
                        "enforce_minimum_key_length": True,
                    },
                )
            except InvalidSignatureError:
                continue
            except _WRONG as error:
                why = error
        raise _Refused(_why(why))

    def _principal(self, claims: dict[str, Any]) -> Principal:
        """Raises `_Refused`."""
        claim = self._demands.claim
        subject, named = claims["sub"], claims.get(claim)
        accounts: list[Any] = named if isinstance(named, list) else [named]
        if not _SUBJECT.fullmatch(subject):
            raise _Refused("its sub should be 1 to 128 visible ASCII characters")
        if not 1 <= len(accounts) <= ACCOUNTS_MAX:
            raise _Refused(f"its claim {claim} should name 1 to {ACCOUNTS_MAX} accounts")
        if not all(isinstance(each, str) and _ACCOUNT.fullmatch(each) for each in accounts):
            raise _Refused(f"its claim {claim} should be the id of an account, or a list of them")
        return Principal(subject, self._scopes, frozenset(accounts), "user")


def _why(error: Exception) -> str:
    """What PyJWT says names claims and shows no values; of what `int` and `json` say, that is not known."""
    return str(error)[:200] if isinstance(error, PyJWTError) else "it has a claim of a wrong type"


def _fitting(keys: Sequence[dict[str, Any]], algorithm: str, kid: Any) -> list[jwt.PyJWK]:
    """The keys that may have signed a token: of its `kid`, if it names one, and made for its algorithm."""
    found = []
    for each in keys:
        if (
            each.get("kty") == _KTY[algorithm]
            and each.get("alg") in (None, algorithm)
            and each.get("use") in (None, "sig")
            and kid in (None, each.get("kid"))
        ):
            try:
                found.append(jwt.PyJWK(each, algorithm))
            except PyJWTError:
                continue
    return found

"""Users' tokens: JWTs (RFC 7519) of whoever lets users in, verified with secrets or with the keys of a JWKS.

What a token says about how it is to be verified is not believed: the algorithm is the configuration's, and a
key verifies with the algorithm that it is for. A token that was verified is known until it ends, or for
`KEEP_SECONDS`, and then verified again, so that a key that was withdrawn is soon good for nothing.
"""

import re
import time
from collections.abc import Callable, Sequence
from typing import Any

import jwt
import structlog
from jwt.exceptions import InvalidSignatureError, PyJWTError

from app.access import Principal
from app.demands import HMAC, KTY, Demands
from app.jwks import Jwks, KeysUnavailable
from app.ledger.errors import LedgerUnavailable
from app.sparing import Sparing

LEEWAY_SECONDS = 60
KEEP_SECONDS = 600.0
KNOWN_MAX = 10_000
TOKEN_BYTES_MAX = 8_192
ACCOUNTS_MAX = 100
LINES_PER_SECOND = 1

_TOKEN = re.compile(rb"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", re.ASCII)
_WRONG = (PyJWTError, TypeError, ValueError, OverflowError, RecursionError)
"""With which a token may be refused; PyJWT lets pass what `int` and `json` raise of strange claims."""
_SUBJECT = re.compile(r"[!-~]{1,128}", re.ASCII)
_ACCOUNT = re.compile(r"[A-Za-z0-9._:@+-]{1,128}", re.ASCII)

log = structlog.get_logger("lastro.tokens")


class _Refused(Exception):
    """Why a token lets nobody in: for the log, never for whoever sent it."""


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
            each.get("kty") == KTY[algorithm]
            and each.get("alg") in (None, algorithm)
            and each.get("use") in (None, "sig")
            and kid in (None, each.get("kid"))
        ):
            try:
                found.append(jwt.PyJWK(each, algorithm))
            except PyJWTError:
                continue
    return found

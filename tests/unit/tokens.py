"""Users' tokens for tests: signed with a secret of the settings, or with keys that an issuer publishes."""

import base64
import json
import time
from typing import Any

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from app.demands import Demands
from app.jwks import Jwks
from app.settings import Settings
from app.tokens import Tokens

SECRET, NEXT = "s" * 32, "n" * 40


RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)


EC = ec.generate_private_key(ec.SECP256R1())


ED = ed25519.Ed25519PrivateKey.generate()


STORES = {"LASTRO_REDIS_URL": "redis://r", "LASTRO_DATABASE_URL": "postgresql://p"}


def settings(**given: str) -> Settings:
    return Settings.read(STORES | {f"LASTRO_{name.upper()}": value for name, value in given.items()})


def tokens(**given: str) -> Tokens:
    demands = Demands.of(settings(**{"jwt_secrets": SECRET, **given}))
    assert demands is not None
    return Tokens(demands)


def claims(**changed: Any) -> dict[str, Any]:
    """Of a token that is good for an hour; `None` leaves a claim out."""
    usual = {"sub": "alice", "exp": int(time.time()) + 3600}
    return {name: value for name, value in (usual | changed).items() if value is not None}


def signed(key: Any = SECRET, algorithm: str = "HS256", kid: str | None = None, **changed: Any) -> bytes:
    headers = {"kid": kid} if kid else None
    return b"Bearer " + jwt.encode(claims(**changed), key, algorithm=algorithm, headers=headers).encode()


def sealed(payload: Any) -> bytes:
    """Whatever it is, under a good signature: PyJWT itself would not put some of it into a token."""
    text = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return b"Bearer " + jwt.PyJWS().encode(text, SECRET, "HS256").encode()


def part(value: Any) -> str:
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


async def whose(tokens: Tokens, authorization: bytes) -> str | None:
    principal = await tokens.authenticate(authorization)
    assert principal == tokens.known(authorization)
    return principal and principal.name


def public(key: Any, kid: str, **more: str) -> dict[str, str]:
    maker = {
        rsa.RSAPrivateKey: jwt.algorithms.RSAAlgorithm,
        ec.EllipticCurvePrivateKey: jwt.algorithms.ECAlgorithm,
    }
    of = next((made for kind, made in maker.items() if isinstance(key, kind)), jwt.algorithms.OKPAlgorithm)
    found = json.loads(of.to_jwk(key.public_key()))
    return {name: value for name, value in found.items() if name != "key_ops"} | {"kid": kid} | more


class Issuer:
    """Who publishes keys."""

    def __init__(self, *keys: dict[str, str]) -> None:
        self.keys = list(keys)
        self.status = 200
        self.now = 1000.0

    def answer(self, _: httpx.Request) -> httpx.Response:
        body = json.dumps({"keys": self.keys}).encode()
        return httpx.Response(self.status, stream=httpx.ByteStream(body))

    def tokens(self, **given: str) -> Tokens:
        demands = Demands.of(settings(jwt_jwks_url="https://login.example/jwks", **given))
        assert demands is not None
        client = httpx.AsyncClient(transport=httpx.MockTransport(self.answer))
        return Tokens(demands, Jwks(demands.jwks, client, keep_seconds=600, clock=lambda: self.now))

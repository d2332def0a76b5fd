"""People who come with tokens of their own: who issues these, and an application that takes them."""

import json
import time
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from app.settings import Settings

AUDIENCE, ISSUER = "lastro", "https://login.example/"
CLAIM = "accounts"
VERBS = "deduct,reserve,extend,bind,quote"

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
STRANGERS = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PUBLIC_PEM = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
JWKS = json.dumps({"keys": [json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(KEY.public_key())) | {"kid": "1"}]})


def settings_with_users(settings: Settings, verbs: str = VERBS, **more: Any) -> Settings:
    """The same, with users who may call `verbs`."""
    of_users = {
        "jwt_jwks_url": JWKS,
        "jwt_audience": AUDIENCE,
        "jwt_issuer": ISSUER,
        "jwt_account_claim": CLAIM,
        "user_scopes": verbs,
    }
    return Settings(
        **{name: getattr(settings, name) for name in settings.__struct_fields__} | of_users | more
    )


def claims(*accounts: str, sub: str = "", **changed: Any) -> dict[str, Any]:
    """What a good token says; `None` leaves a claim out."""
    named: Any = list(accounts) if len(accounts) > 1 else accounts[0]
    usual = {
        "sub": sub or f"user-of-{accounts[0]}",
        CLAIM: named,
        "aud": AUDIENCE,
        "iss": ISSUER,
        "exp": int(time.time()) + 3600,
    }
    return {name: value for name, value in (usual | changed).items() if value is not None}


def token(*accounts: str, key: Any = KEY, algorithm: str = "RS256", **changed: Any) -> str:
    """A token that is good, but for what is changed."""
    return jwt.encode(claims(*accounts, **changed), key, algorithm=algorithm, headers={"kid": "1"})


def unsigned(*accounts: str) -> str:
    """A token that says that it needs no signature."""
    return jwt.encode(claims(*accounts), None, algorithm="none", headers={"kid": "1"})


def signed_with_what_is_public(*accounts: str) -> str:
    """A token whose HMAC was made of the public key, which everybody has."""
    head = jwt.utils.base64url_encode(b'{"alg":"HS256","kid":"1"}')
    signing = head + b"." + jwt.utils.base64url_encode(json.dumps(claims(*accounts)).encode())
    made = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(signing, PUBLIC_PEM)
    return (signing + b"." + jwt.utils.base64url_encode(made)).decode()

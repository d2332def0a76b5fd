"""What only looks like a token of somebody lets nobody in."""

import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.unit.tokens import (
    EC,
    RSA,
    SECRET,
    Issuer,
    claims,
    part,
    public,
    sealed,
    signed,
    tokens,
    whose,
)


def forged(alg: Any, secret: bytes, **header: Any) -> bytes:
    """A token that says `alg`, and is signed with HMAC under `secret` (or not at all)."""
    signing = f"{part({'alg': alg, 'typ': 'JWT', **header})}.{part(claims())}"
    signature = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(
        signing.encode(), secret
    )
    return b"Bearer " + signing.encode() + b"." + part(signature).encode()


async def test_the_algorithm_is_that_of_the_settings_whatever_a_token_says():
    of = Issuer(public(RSA, "1"), public(EC, "2", alg="ES256"), public(RSA, "3", use="enc")).tokens()
    pem = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    der = RSA.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    for secret in (pem, pem.strip(), der, json.dumps(public(RSA, "1")).encode(), b""):
        for alg in ("HS256", "hs256", "none", "None", "", None, "RS256", ["RS256"], {"a": 1}, 7):
            assert await whose(of, forged(alg, secret, kid="1")) is None, (secret, alg)
    unsigned = f"Bearer {part({'alg': 'none'})}.{part(claims())}."
    assert await whose(of, unsigned.encode()) is None
    assert await whose(tokens(), unsigned.encode()) is None
    assert await whose(tokens(), forged("none", b"")) is None
    assert await whose(tokens(), signed("h" * 64, "HS512")) is None
    assert await whose(tokens(jwt_secrets="h" * 64), signed("h" * 64, "HS512")) is None
    assert await whose(of, signed(RSA, "RS512", "1")) is None, "not among those that are allowed"
    assert await whose(of, signed(RSA, "RS256", "3")) is None, "a key for encryption"
    assert (
        await whose(Issuer({"kty": "oct", "k": part(SECRET.encode()), "kid": "1"}).tokens(), signed(kid="1"))
        is None
    )


async def test_a_key_that_travels_in_the_token_is_not_used():
    of = Issuer(public(RSA, "1")).tokens()
    own = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    for header in (
        {"jwk": public(own, "1")},
        {"jku": "https://evil.example/"},
        {"x5u": "https://evil.example/"},
    ):
        token = jwt.encode(claims(), own, algorithm="RS256", headers={"kid": "1", **header})
        assert await whose(of, f"Bearer {token}".encode()) is None


async def test_a_published_key_that_is_too_short_verifies_nothing():
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505
    with pytest.warns(Warning, match="below"):
        token = signed(weak, "RS256", "1")
    assert await whose(Issuer(public(weak, "1")).tokens(), token) is None


NO_TOKENS = [
    b"", b"Bearer", b"Bearer ", b"Bearer a.b", b"Bearer a.b.c.d", b"Bearer .e30.", b"Bearer e30.e30.e30",
    b"Basic " + b"a.b.c", b"Bearer \xff.\xfe.\xfd", b"Bearer a.b.c\x00", b"Bearer " + b"a" * 9000 + b".b.c",
]  # fmt: skip


async def test_what_is_no_token_is_nobodys():
    published = Issuer(public(RSA, "1")).tokens()
    good = signed().decode()
    head, body, signature = good.removeprefix("Bearer ").split(".")
    strange = [
        *NO_TOKENS,
        f"Bearer {head}.{body}.".encode(),
        f"Bearer {head}.{body}.{signature[:-2]}".encode(),
        f"Bearer {head}.{body[:-1]}.{signature}".encode(),
        f"Bearer {head}.{part(claims(sub='bob'))}.{signature}".encode(),
        f"{good}\n".encode(),
        f"Bearer Bearer {head}.{body}.{signature}".encode(),
    ]
    heads = [
        b"[" * 5000,
        b"null",
        b"7",
        b'"a"',
        b"[]",
        b"\xff",
        b'{"alg":"HS256","kid":7}',
        b'{"alg":"HS256","crit":["x"]}',
    ]
    strange += [f"Bearer {part(each)}.{body}.{signature}".encode() for each in heads]
    for each in strange:
        assert await whose(tokens(), each) is None, each[:80]
        assert await whose(published, each) is None, each[:80]


async def test_strange_claims_under_a_good_signature_let_nobody_in():
    for payload in (
        b"[" * 5000, b"null", b"[]", b"7", b"{}", b"\xff",
        b'{"sub":"alice","exp":Infinity}', b'{"sub":"alice","exp":NaN}', b'{"sub":"alice","exp":null}',
        b'{"sub":"alice","exp":[]}', b'{"sub":"alice","exp":{}}', b'{"sub":"alice","exp":"soon"}',
        b'{"sub":"alice","exp":9999999999,"nbf":"x"}', b'{"sub":"alice","exp":9999999999,"iat":[]}',
    ):  # fmt: skip
        assert await whose(tokens(), sealed(payload)) is None, payload[:60]

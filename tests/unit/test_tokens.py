"""Which tokens let somebody in, and as whom."""

import base64
import json
import time
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from structlog.testing import capture_logs

from app.jwks import AGAIN_SECONDS, Jwks
from app.ledger.errors import LedgerUnavailable
from app.settings import Settings
from app.tokens import ACCOUNTS_MAX, KEEP_SECONDS, KNOWN_MAX, LEEWAY_SECONDS, Demands, Tokens

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


async def test_a_token_says_who_and_of_which_account():
    principal = await tokens(user_scopes="deduct, quote").authenticate(signed())
    assert principal is not None
    assert ("user:alice", frozenset({"alice"})) == (principal.by, principal.accounts)
    assert {"read", "deduct", "quote"} == principal.scopes


async def test_a_claim_of_the_settings_names_one_account_or_those_of_a_team():
    of = tokens(jwt_account_claim="https://shop.example/accounts")
    for claim, accounts in (("team-1", {"team-1"}), (["a", "b"], {"a", "b"}), (["a", "a"], {"a"})):
        principal = await of.authenticate(signed(sub="auth0|7", **{"https://shop.example/accounts": claim}))
        assert principal is not None
        assert ("user:auth0|7", accounts) == (principal.by, principal.accounts)


NO_ACCOUNT = [None, [], "", 7, True, {"a": 1}, [7], [["a"]], ["a", None], "a b", "a\n", "ä", "{0}", "x" * 129]
NO_SUBJECT = [None, "", 7, ["alice"], "a b", "a\x00", "a\r\nb", "ü", "x" * 129]


async def test_a_genuine_token_without_an_account_or_somebody_lets_nobody_in():
    of = tokens(jwt_account_claim="account")
    assert "alice" == await whose(of, signed(account="a"))
    for account in [*NO_ACCOUNT, [f"a{number}" for number in range(ACCOUNTS_MAX + 1)]]:
        assert await whose(of, signed(account=account)) is None, account
    for subject in NO_SUBJECT:
        assert await whose(of, sealed(claims(sub=subject, account="a"))) is None, subject


async def test_every_secret_verifies_so_that_they_can_be_changed_one_after_the_other():
    both = tokens(jwt_secrets=f"{NEXT},{SECRET}")
    assert ["alice", "alice"] == [await whose(both, signed(each)) for each in (SECRET, NEXT)]
    assert await whose(tokens(jwt_secrets=NEXT), signed()) is None


async def test_audience_and_issuer_are_demanded_where_they_are_set():
    of = tokens(jwt_audience="lastro", jwt_issuer="https://login.example/")
    good = {"aud": "lastro", "iss": "https://login.example/"}
    assert "alice" == await whose(of, signed(**good))
    assert "alice" == await whose(of, signed(**good | {"aud": ["shop", "lastro"]}))
    for wrong in (
        {"aud": None}, {"aud": "shop"}, {"aud": []}, {"aud": 7}, {"aud": "lastro2"}, {"aud": ["last", "ro"]},
        {"iss": None}, {"iss": "https://login.example"}, {"iss": "https://login.example/x"},
    ):  # fmt: skip
        assert await whose(of, sealed(claims(**good | wrong))) is None, wrong
    assert "alice" == await whose(tokens(), signed(**good)), "and not looked at where they are not"


async def test_clocks_may_be_a_minute_apart():
    now = int(time.time())
    for changed, name in (
        ({"exp": now - LEEWAY_SECONDS + 5}, "alice"),
        ({"exp": now - LEEWAY_SECONDS - 5}, None),
        ({"exp": None}, None),
        ({"nbf": now + LEEWAY_SECONDS - 5}, "alice"),
        ({"nbf": now + LEEWAY_SECONDS + 5}, None),
        ({"iat": now + LEEWAY_SECONDS + 5}, None),
    ):
        assert name == await whose(tokens(), signed(**changed)), changed


async def test_a_token_ends_also_while_it_is_known():
    now = time.time()
    demands = Demands.of(settings(jwt_secrets=SECRET))
    assert demands is not None
    of = Tokens(demands, clock=lambda: now)
    short, long = signed(exp=int(now) + 100), signed(exp=int(now) + 100_000)
    for token in (short, long):
        assert await of.authenticate(token)
    now += 100 + LEEWAY_SECONDS + 1
    assert (None, "alice") == (of.known(short), (found := of.known(long)) and found.name)
    now += KEEP_SECONDS
    assert of.known(long) is None, "and is verified again"


async def test_what_is_known_is_bounded(monkeypatch):
    monkeypatch.setattr("app.tokens.KNOWN_MAX", 10)
    of = tokens()
    for number in range(30):
        assert await of.authenticate(signed(sub=f"user-{number}"))
    assert 10 == len(of._known) < KNOWN_MAX
    one = signed()
    for space in range(1, 30):
        assert "alice" == (await of.authenticate(one.replace(b" ", b" " * space))).name
    assert 9 == sum(principal.name != "alice" for principal, _ in of._known.values())


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


ALGORITHMS = [("RS256", RSA), ("ES256", EC), ("EdDSA", ED)]


@pytest.mark.parametrize(("algorithm", "key"), ALGORITHMS, ids=[each for each, _ in ALGORITHMS])
async def test_tokens_are_verified_with_published_keys(algorithm, key):
    of = Issuer(public(RSA, "1"), public(EC, "2"), public(ED, "3")).tokens()
    kid = {"RS256": "1", "ES256": "2", "EdDSA": "3"}[algorithm]
    assert "alice" == await whose(of, signed(key, algorithm, kid))
    assert "alice" == await whose(of, signed(key, algorithm)), "which may be left unnamed"
    for other in {"1", "2", "3", "4"} - {kid}:
        assert await whose(of, signed(key, algorithm, other)) is None


async def test_a_new_key_is_fetched_when_a_token_names_it_and_a_withdrawn_one_is_good_for_nothing():
    issuer = Issuer(public(RSA, "old"))
    of = issuer.tokens()
    old, new = signed(RSA, "RS256", "old"), signed(EC, "ES256", "new")
    assert ("alice", None) == (await whose(of, old), await whose(of, new))
    issuer.keys = [public(EC, "new")]
    assert await whose(of, new) is None, "asked for lately"
    issuer.now += AGAIN_SECONDS
    assert "alice" == await whose(of, new)
    of._known.clear()
    assert await whose(of, old) is None


async def test_while_no_keys_can_be_fetched_nobody_can_tell():
    issuer = Issuer(public(RSA, "1"))
    issuer.status = 500
    of = issuer.tokens()
    with pytest.raises(LedgerUnavailable) as raised:
        await of.authenticate(signed(RSA, "RS256", "1"))
    assert {"cause": "token_keys"} == raised.value.facts
    assert await of.authenticate(signed()) is None, "what another algorithm has signed is wrong without them"


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


@pytest.mark.parametrize(
    ("token", "why"),
    [
        (signed("other" * 8), "Signature verification failed"),
        (signed(exp=int(time.time()) - 2 * LEEWAY_SECONDS), "Signature has expired"),
        (signed(NEXT, exp=int(time.time()) - 2 * LEEWAY_SECONDS), "Signature has expired"),
        (signed(aud="another"), "Audience doesn't match"),
        (signed(aud="us", sub="a b"), "its sub should be 1 to 128 visible ASCII characters"),
        (signed(aud="us", team=None), "its claim team should be the id of an account, or a list of them"),
        (signed(aud="us", team=[]), f"its claim team should name 1 to {ACCOUNTS_MAX} accounts"),
    ],
)
async def test_the_log_tells_why_a_token_was_refused_and_its_sender_does_not_learn_it(token, why):
    of = tokens(jwt_secrets=f"{SECRET},{NEXT}", jwt_audience="us", jwt_account_claim="team")
    with capture_logs() as lines:
        assert [None] * 3 == [await of.authenticate(token) for _ in range(3)]
    assert [why] == [line["why"] for line in lines], "once a second, however many there are"

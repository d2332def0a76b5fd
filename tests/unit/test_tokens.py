"""Which tokens let somebody in, and as whom."""

import time

import pytest
from structlog.testing import capture_logs

from app.demands import Demands
from app.jwks import AGAIN_SECONDS
from app.ledger.errors import LedgerUnavailable
from app.tokens import ACCOUNTS_MAX, KEEP_SECONDS, KNOWN_MAX, LEEWAY_SECONDS, Tokens
from tests.unit.tokens import (
    EC,
    ED,
    NEXT,
    RSA,
    SECRET,
    Issuer,
    claims,
    public,
    sealed,
    settings,
    signed,
    tokens,
    whose,
)


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

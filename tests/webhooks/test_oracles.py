"""Our proofs against the libraries that the schemes come with: the same on what is right, no laxer else."""

import base64
import time
from datetime import UTC, datetime
from json import JSONDecodeError

import pytest
import standardwebhooks
import stripe
from hypothesis import given
from hypothesis import strategies as st

from app.webhooks.event import Delivery
from app.webhooks.schemes import KEY_BYTES_MIN, STANDARD
from app.webhooks.stripe import STRIPE
from tests.webhooks.deliveries import SECRETS, SENDERS, is_proven

KEYS = st.binary(min_size=KEY_BYTES_MIN, max_size=64)
BODIES = st.text(st.characters(codec="utf-8"), max_size=200).map(str.encode)
IDS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40)
HEADERS = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=60)
DRIFTS = st.integers(-250, 250)


def standard_proves(delivery: Delivery, secret: str) -> bool:
    try:
        standardwebhooks.Webhook(secret).verify(delivery.body, dict(delivery.headers))
    except JSONDecodeError:  # it reads the body once it is proven
        return True
    except (standardwebhooks.WebhookVerificationError, ValueError):  # which it lets out
        return False
    return True


def stripe_proves(delivery: Delivery, secret: str) -> bool:
    try:
        header = delivery.headers["stripe-signature"]
        stripe.WebhookSignature.verify_header(delivery.body.decode(), header, secret, tolerance=300)
    except (stripe.SignatureVerificationError, ValueError, KeyError):
        return False
    return True


@given(KEYS, IDS, BODIES, DRIFTS)
def test_what_we_sign_the_library_of_standard_webhooks_proves(key, identity, of, drift):
    secret = "whsec_" + base64.b64encode(key).decode()
    delivery = Delivery(STANDARD.sign(of, key, time.time() + drift, identity), of)
    assert standard_proves(delivery, secret)
    assert is_proven("replicate", delivery, secret, time.time())


@given(KEYS, IDS, BODIES, DRIFTS)
def test_what_the_library_of_standard_webhooks_signs_we_prove(key, identity, of, drift):
    at = datetime.fromtimestamp(int(time.time() + drift), UTC)
    secret = "whsec_" + base64.b64encode(key).decode()
    signature = standardwebhooks.Webhook(secret).sign(identity, at, of.decode())
    headers = {
        "webhook-id": identity,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": signature,
    }
    assert is_proven("replicate", Delivery(headers, of), secret, time.time())


@given(st.data(), BODIES)
def test_whatever_is_in_the_headers_we_prove_no_more_than_the_library_does(data, of):
    secret = SECRETS["replicate"]
    good = SENDERS["replicate"].sign(of, secret, time.time(), "msg_1")
    headers = {
        name: data.draw(st.one_of(st.just(value), HEADERS, st.builds(str.__add__, st.just(value), HEADERS)))
        for name, value in good.items()
    }
    delivery = Delivery(headers, of)
    if is_proven("replicate", delivery, secret, time.time()):
        assert standard_proves(delivery, secret)


@given(IDS, BODIES, DRIFTS)  # a secret of spaces is one that neither takes
def test_what_we_sign_as_stripe_its_library_proves(secret, of, drift):
    delivery = Delivery(STRIPE.sign(of, secret, time.time() + drift, ""), of)
    assert stripe_proves(delivery, secret)
    assert is_proven("stripe", delivery, secret, time.time())


@given(st.data(), BODIES)
def test_whatever_is_in_its_header_we_prove_no_more_than_stripes_library_does(data, of):
    secret = SECRETS["stripe"]
    ((name, good),) = STRIPE.sign(of, secret, time.time(), "").items()
    parts = data.draw(st.lists(st.one_of(st.sampled_from([*good.split(","), good]), HEADERS), max_size=5))
    delivery = Delivery({name: ",".join(parts)}, of)
    if is_proven("stripe", delivery, secret, time.time()):
        assert stripe_proves(delivery, secret)


@pytest.mark.parametrize("drift", [-301, -3600])
def test_what_is_too_old_neither_proves(drift):
    of = b"{}"
    standard = Delivery(SENDERS["replicate"].sign(of, SECRETS["replicate"], time.time() + drift, "a"), of)
    assert not standard_proves(standard, SECRETS["replicate"])
    assert not is_proven("replicate", standard, SECRETS["replicate"], time.time())
    stripes = Delivery(STRIPE.sign(of, SECRETS["stripe"], time.time() + drift, ""), of)
    assert not stripe_proves(stripes, SECRETS["stripe"])
    assert not is_proven("stripe", stripes, SECRETS["stripe"], time.time())

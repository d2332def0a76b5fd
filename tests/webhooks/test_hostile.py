"""Hostile bytes: never proven, never a fault of our own, and what is read has the shape that it promises."""

import re
import unicodedata
from collections.abc import Callable
from decimal import Decimal

import msgspec
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from app.ledger.credits import CREDITS_MAX
from app.ledger.shards import SHARDS_MAX, shard_of_reservation
from app.webhooks import runway, stripe
from app.webhooks.event import Delivery, Event, Unreadable
from app.webhooks.payload import REASON_MAX
from tests.webhooks.deliveries import NOW, SECRETS, SENDERS, SIGNING, TIMED, is_proven, made

READERS: dict[str, Callable[[Delivery], object]] = {name: each.read for name, each in SENDERS.items()}
READERS["runway"] = runway.read

NAMES = sorted({header for name in SIGNING for header in made(name).headers} | {"signature", "accept"})
PIECES = [
    "t=", "v1=", "v1,", ",", "=", " ", ";", "sha256=", "whsec_", str(NOW), "\x00", "\r\n", "é", "\u0665",
    "-", ".",
]  # fmt: skip
VALUES = st.one_of(
    st.text(max_size=80),
    st.lists(st.sampled_from(PIECES), max_size=12).map("".join),
    st.text("0123456789abcdef", min_size=64, max_size=128),
)
WORDS = [
    "id", "status", "state", "task_id", "task_status", "task_info", "external_id", "request_id", "error",
    "event_type", "event_data", "video_id", "callback_id", "taskId", "reservationId", "amount", "metadata",
    "data", "object", "type", "created", "payment_status", "payment_intent", "invoice", "total",
    "amount_refunded", "lastro_credits", "client_reference_id", "previous_attributes", "parent", "succeeded",
    "failed", "OK", "ERROR", "Ready", "COMPLETED", "completed", "avatar_video.success", "avatar_video.fail",
    "invoice.paid", "charge.refunded", "checkout.session.completed", "charge.dispute.created", "paid",
    "01a1ffa5-4956-7003-abd8-99c175348713",
]  # fmt: skip
TEXTS = st.one_of(st.sampled_from(WORDS), st.text(max_size=20))
JSON = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), TEXTS
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=8)),
    max_leaves=30,
)
of_signing = pytest.mark.parametrize("name", SIGNING)
of_all = pytest.mark.parametrize("name", READERS)


def prove(name: str, delivery: Delivery, now: float = NOW) -> bool:
    return is_proven(name, delivery, SECRETS[name], now)


def read(name: str, delivery: Delivery) -> object:
    """What is read, which has the shape that it promises; `None` where it is refused."""
    try:
        found = READERS[name](delivery)
    except Unreadable:
        return None
    if isinstance(found, Event):
        assert name == found.provider
        assert found.outcome in ("succeeded", "failed", "progress")
        assert found.task is None or re.fullmatch(r"[ -~]{1,255}", found.task)
        assert found.task or found.reservation or found.outcome == "progress"
        assert found.reservation is None or shard_of_reservation(found.reservation, SHARDS_MAX) is not None
        assert found.amount is None or 0 <= found.amount <= CREDITS_MAX
        assert found.reason is None or found.outcome == "failed"
        assert found.reason is None or "Cc" not in map(unicodedata.category, found.reason)
        assert found.reason is None or 1 <= len(found.reason) <= REASON_MAX
    elif isinstance(found, stripe.Payment):
        assert 1 <= found.credits <= CREDITS_MAX
        assert re.fullmatch(r"stripe:[ -~]{1,248}", found.key)
        assert re.fullmatch(r"[A-Za-z0-9._:@+-]{1,128}", found.account)
        assert found.expires_days is None or 1 <= found.expires_days <= stripe.EXPIRES_DAYS_MAX
    elif isinstance(found, stripe.Reversal):
        assert 0 <= found.amount_before < found.amount_after <= found.of_total
    else:
        assert isinstance(found, stripe.Other)
    return found


@of_signing
@given(
    st.dictionaries(st.sampled_from(NAMES), VALUES), st.binary(max_size=100), st.sets(st.sampled_from(NAMES))
)
def test_made_up_headers_prove_nothing(name, headers, of, duplicated):
    assert not prove(name, Delivery(headers, of, frozenset(duplicated)))


@of_signing
@given(st.data())
def test_a_good_delivery_with_one_made_up_header_proves_nothing(name, data):
    good = made(name)
    header = data.draw(st.sampled_from(sorted(good.headers)))
    value = data.draw(VALUES)
    words = good.headers[header].replace(",", " ").split()
    assume(not any(word.strip() in value.replace(",", " ").split() for word in words))
    assert not prove(name, good._replace(headers={**good.headers, header: value}))


@of_signing
@given(st.data())
def test_a_good_delivery_with_one_other_character_in_a_header_proves_nothing(name, data):
    good = made(name)
    header = data.draw(st.sampled_from(sorted(good.headers)))
    value = good.headers[header]
    place = data.draw(st.integers(0, len(value) - 1))
    other = data.draw(st.characters())
    assume(other != value[place])
    assume(name != "fal" or other.lower() != value[place].lower())  # hex is hex in either case
    # A space or comma more splits a list where a name ends, and what stands before it counts for nothing.
    changed = value[:place] + other + value[place + 1 :]
    assert not prove(name, good._replace(headers={**good.headers, header: changed}))


@of_signing
@given(st.binary(max_size=300))
def test_another_body_is_not_proven(name, of):
    good = made(name)
    assume(of != good.body)
    assert not prove(name, good._replace(body=of))


@pytest.mark.parametrize("name", TIMED)
@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e15, max_value=1e15))
def test_at_any_other_time_nothing_is_proven(name, now):
    assume(abs(now - NOW) > 301)
    assert not prove(name, made(name), now)


@of_all
@given(st.binary(max_size=300))
@example(b'{"id":"a","status":"Ready","x":' + b"[" * 5000 + b"]" * 5000 + b"}")
def test_any_bytes_are_read_or_refused(name, of):
    read(name, Delivery({}, of))


@of_all
@given(JSON)
def test_any_json_is_read_or_refused(name, value):
    read(name, Delivery({}, msgspec.json.encode(value)))


@of_all
@given(st.data())
def test_whatever_one_of_its_fields_is_a_delivery_is_read_or_refused(name, data):
    sender = "bfl" if name == "runway" else name
    outcome = data.draw(st.sampled_from(["succeeded", "failed"]))
    good = made(sender, outcome)
    value = msgspec.json.decode(good.body)
    about = value["data"]["object"] if name == "stripe" else value.get("event_data", value)
    about[data.draw(st.sampled_from([*about, *WORDS]))] = data.draw(JSON)
    read(name, good._replace(body=msgspec.json.encode(value)))


@of_all
@given(st.data())
def test_a_delivery_that_was_cut_off_is_refused(name, data):
    good = made("bfl" if name == "runway" else name)
    end = data.draw(st.integers(0, len(good.body) - 1))
    assert read(name, good._replace(body=good.body[:end])) is None


@given(st.from_regex(rb"-?[0-9]{1,30}(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,12})?", fullmatch=True))
def test_every_number_that_is_read_may_be_computed_with(number):
    of = b'{"id":"a","status":"succeeded","metrics":{"predict_time":%b}}' % number
    found = read("replicate", Delivery({}, of))
    if found is not None:
        value = found.payload["metrics"]["predict_time"]
        assert isinstance(value, int | Decimal)
        assert len(str(int(value))) <= 500

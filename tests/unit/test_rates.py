"""Prices are exact: held against fractions, at the edges of every number, and with values made to deceive."""

import decimal
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from math import ceil

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.ledger.credits import CREDITS_MAX
from app.ledger.entries import Price
from app.rates import Card, CardUnknown, ModelNotFound, NotAnAmount, Rate, canonical, computed, reprice

MICRO = 1_000_000
LARGEST_MICRO = CREDITS_MAX * MICRO

# As people write them: more or fewer places than needed, whole ones as integers.
WRITTEN = st.one_of(
    st.integers(0, CREDITS_MAX),
    st.integers(0, 10**6),
    st.builds(
        lambda micro, places: f"{micro // MICRO}.{f'{micro % MICRO:06}'[:places]}",
        st.integers(0, LARGEST_MICRO - MICRO) | st.integers(0, 10**9),
        st.integers(1, 6),
    ),
)


def rate(model: str = "lip-sync", version: int = 1, base: str = "1", price: str = "1", **more) -> Rate:
    at = datetime(2026, 1, 2, tzinfo=UTC)
    return Rate(
        model=model,
        version=version,
        base=base,
        price=price,
        ttl_seconds=more.get("ttl_seconds"),
        by="key:x",
        at=at,
    )


def card(*rates: Rate) -> Card:
    made = Card()
    made.replace({each.model: each for each in rates})
    return made


@given(base=WRITTEN, price=WRITTEN, units=WRITTEN)
@example(base=1, price=1, units=50)
@example(base=CREDITS_MAX, price=CREDITS_MAX, units=CREDITS_MAX)
@example(base="9007199254740990.999999", price="9007199254740990.999999", units="9007199254740990.999999")
@example(base="0", price="0.000001", units="0.000001")
@example(base="0.999999", price="0.000001", units="0.999999")
def test_credits_are_the_ceiling_of_the_fraction(base, price, units):
    exact = Fraction(base) + Fraction(units) * Fraction(price)
    assert ceil(exact) == computed(canonical(base), canonical(price), canonical(units))


@given(base=WRITTEN, price=WRITTEN, units=WRITTEN)
def test_an_amount_is_1_to_2_53_1_or_refused_with_what_it_comes_to(base, price, units):
    of = card(rate(base=canonical(base), price=canonical(price)))
    comes_to = ceil(Fraction(base) + Fraction(units) * Fraction(price))
    if 1 <= comes_to <= CREDITS_MAX:
        assert comes_to == of.price("lip-sync", units).credits
    else:
        with pytest.raises(NotAnAmount, match=rf" come to {comes_to} credits \(version 1 of lip-sync: base "):
            of.price("lip-sync", units)


@given(WRITTEN)
def test_the_shortest_text_is_the_same_number_and_its_own_shortest_text(value):
    text = canonical(value)
    assert Fraction(value) == Fraction(text)
    assert canonical(text) == text
    assert len(text) <= len(str(value))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"), ("0", "0"), ("0.0", "0"), ("0.000000", "0"), (100, "100"), ("100", "100"),
        ("100.00", "100"), ("12.5", "12.5"), ("12.500000", "12.5"), ("0.000001", "0.000001"),
        (CREDITS_MAX, "9007199254740991"), ("9007199254740991.000000", "9007199254740991"),
        ("9007199254740990.999999", "9007199254740990.999999"),
    ],
)  # fmt: skip
def test_numbers_have_one_shortest_text(value, text):
    assert text == canonical(value)


@pytest.mark.parametrize(
    "value",
    [
        "", " ", "-1", "+1", "-0", "1e3", "1E3", "1.0e1", "NaN", "nan", "sNaN", "Infinity", "-Infinity",
        "inf", ".5", "5.", "0.", "00", "007", "00.5", "1_000", "1,5", "1 ", " 1", "1\n", "1.5\n", "0x10",
        "0b1", "1/2", "\u0663", "\uff15", "1.1234567", "1.0000000", "9007199254740991.000001",
        "9007199254740992", "99999999999999999", "9" * 5000, "1." + "0" * 5000, "1\x00", -1, CREDITS_MAX + 1,
        10**400, True, False, 1.0, 0.5, float("nan"), None, b"1", [1], Decimal(1), Fraction(1),
    ],
)  # fmt: skip
def test_what_is_no_number_of_at_most_6_places_within_the_bounds_is_refused(value):
    with pytest.raises(ValueError, match=r"9007199254740991|6 places"):
        canonical(value)
    with pytest.raises(ValueError, match=r"9007199254740991|6 places"):
        card(rate()).price("lip-sync", value)


@pytest.mark.parametrize(
    ("seconds", "costs"), [(50, 51), (12, 13), ("12", 13), ("12.000001", 14), ("7.4", 9), (0, 1)]
)
def test_a_second_that_was_begun_counts_and_one_credit_is_added(seconds, costs):
    assert costs == card(rate(base="1", price="1")).price("lip-sync", seconds).credits


def test_nothing_that_the_program_around_it_does_to_decimals_changes_a_price():
    with decimal.localcontext(decimal.Context(prec=3, rounding=decimal.ROUND_DOWN, Emax=9, Emin=-9)):
        assert 1_000_001_000_001 == computed("1", "1000001", "1000000")
        assert 2 == computed("1", "0.000001", "0.000001")


def test_a_price_says_all_that_it_was_computed_from_in_shortest_texts():
    found = card(rate(version=7, base="0.5", price="1.25", ttl_seconds=900)).price("lip-sync", "2.50")
    price = Price(model="lip-sync", version=7, base="0.5", price="1.25", units="2.5")
    assert (4, price, 900) == found
    assert '{"model":"lip-sync","version":7,"base":"0.5","price":"1.25","units":"2.5"}' == found.text
    assert price == msgspec.json.decode(found.text, type=Price)


def test_units_are_priced_again_by_what_was_frozen_and_not_by_the_card():
    frozen = card(rate(version=1, base="1", price="1")).price("lip-sync", 50).price
    of = card(rate(version=2, base="0", price="10"))
    assert 500 == of.price("lip-sync", 50).credits
    assert 42 == reprice(frozen, "40.5")
    with pytest.raises(NotAnAmount, match="0 come to 0 credits"):
        reprice(Price(model="m", version=1, base="0", price="1", units="5"), 0)
    with pytest.raises(ValueError, match="6 places"):
        reprice(frozen, "1e3")


def test_a_model_is_unknown_only_to_a_card_that_is_current():
    never_read = Card()
    with pytest.raises(CardUnknown):
        never_read.price("lip-sync", 1)
    with pytest.raises(CardUnknown):
        never_read.get("lip-sync")
    read = card()
    with pytest.raises(ModelNotFound):
        read.price("lip-sync", 1)
    assert read.get("lip-sync") is None
    read.is_current = False
    with pytest.raises(CardUnknown):
        read.price("lip-sync", 1)
    assert read.get("lip-sync") is None


def test_a_card_that_is_no_longer_current_prices_what_it_knows():
    known = card(rate(ttl_seconds=60))
    known.is_current = False
    assert 51 == known.price("lip-sync", 50).credits
    assert 60 == known.get("lip-sync").ttl_seconds


def test_a_version_that_comes_late_changes_nothing():
    known = card(rate(version=3, price="3"))
    known.put(rate(version=2, price="2"))
    assert 3 == known.get("lip-sync").version
    known.put(rate(version=4, price="4"))
    known.put(rate(model="upscale", version=1, base="4", price="0"))
    assert (201, 4) == (known.price("lip-sync", 50).credits, known.price("upscale", 9).credits)

"""What the guide says of receiving works, and its examples are of the shape that is sent."""

import re
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from standardwebhooks import Webhook

from app.events import JOURNALED, TYPES, EventType, Message, encode
from persistence.events.delivering import BACKOFF_SECONDS

GUIDE = (Path(__file__).parents[3] / "docs/events.md").read_text()
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = b'{"type":"balance.low","data":{"text":"\xc3\xa4"}}'
RECEIVERS = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
EXAMPLES = [
    msgspec.json.decode(text)
    for text in re.findall(r"```json\n(.*?)```", GUIDE, re.DOTALL)
    if '"timestamp"' in text
]


def test_the_guide_shows_two_receivers():
    assert 2 == len(RECEIVERS)


@pytest.mark.parametrize("code", RECEIVERS)
def test_a_receiver_takes_what_is_signed_and_nothing_else(code):
    scope: dict = {}
    exec(code, scope)  # noqa: S102 (it is our own)
    now = datetime.now(UTC)
    headers = {
        "webhook-id": "e7c3a1de-0000-4000-8000-000000000000",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(SECRET).sign("e7c3a1de-0000-4000-8000-000000000000", now, BODY.decode()),
    }
    assert msgspec.json.decode(BODY) == scope["received"](BODY, headers, SECRET)
    wrong = [
        (BODY + b" ", headers, SECRET),
        (BODY, headers | {"webhook-id": "another"}, SECRET),
        (BODY, headers, "whsec_" + "A" * 32),
    ]
    for delivery in wrong:
        with pytest.raises(Exception, match=r"not from Lastro|No matching signature"):
            scope["received"](*delivery)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda each: each["type"])
def test_an_example_is_what_would_be_sent(example):
    payload = msgspec.convert(example["data"], TYPES[example["type"]])
    sent = encode(Message(example["type"], example["timestamp"], payload))
    assert example == msgspec.json.decode(sent)


def test_there_is_an_example_of_every_shape_and_a_row_of_every_type():
    assert set(TYPES.values()) == {TYPES[each["type"]] for each in EXAMPLES}
    assert set(TYPES) == set(re.findall(r"^\| `([a-z_.]+)` \|", GUIDE, re.MULTILINE))
    assert set(TYPES) == set(EventType.__args__) >= JOURNALED


def test_the_pauses_between_attempts_are_those_that_the_guide_names():
    assert [5, 30, 120, 600, 1800, 3600, 7200, 14400, 28800] == list(BACKOFF_SECONDS[:9])
    assert {43200} == set(BACKOFF_SECONDS[9:])
    assert 15 == 1 + len(BACKOFF_SECONDS)

"""What a proven delivery means for the credits: its sender's words, old and new, and no others."""

from decimal import Decimal

import pytest

from app.webhooks.event import Delivery
from app.webhooks.payload import REASON_MAX
from app.webhooks.providers import PROVIDERS
from app.webhooks.simulated import NeverSent, body
from tests.webhooks.deliveries import TASK, made, sent, told
from tests.webhooks.reading import READ, unreadable

STATUS = {
    "replicate": "status", "kling": "status", "bfl": "status", "sync": "status", "luma": "state",
    "generic": "status", "runway": "status",
}  # fmt: skip
WORDS = [
    ("replicate", "progress", ["starting", "processing"]),
    ("replicate", "succeeded", ["succeeded"]),
    ("replicate", "failed", ["failed", "canceled", "aborted"]),
    ("kling", "progress", ["submitted", "processing"]),
    ("kling", "succeeded", ["succeeded", "succeed"]),
    ("kling", "failed", ["failed"]),
    ("bfl", "progress", ["Pending"]),
    ("bfl", "succeeded", ["Ready"]),
    ("bfl", "failed", ["Error", "Request Moderated", "Content Moderated"]),
    ("sync", "progress", ["PENDING", "PROCESSING"]),
    ("sync", "succeeded", ["COMPLETED"]),
    ("sync", "failed", ["FAILED", "REJECTED", "CANCELED", "TIMED_OUT"]),
    ("luma", "progress", ["queued", "dreaming"]),
    ("luma", "succeeded", ["completed"]),
    ("luma", "failed", ["failed"]),
    ("generic", "progress", ["progress"]),
    ("generic", "succeeded", ["succeeded"]),
    ("generic", "failed", ["failed"]),
    ("runway", "progress", ["PENDING", "THROTTLED", "RUNNING"]),
    ("runway", "succeeded", ["SUCCEEDED"]),
    ("runway", "failed", ["FAILED", "CANCELLED"]),
]


def simplest(name: str, status: object) -> dict[str, object]:
    return {"taskId" if name == "generic" else "id": TASK, STATUS[name]: status}


@pytest.mark.parametrize(("name", "outcome", "words"), WORDS, ids=str)
def test_every_word_of_a_provider_means_one_thing(name, outcome, words):
    for word in words:
        event = READ[name](sent(simplest(name, word)))
        assert (name, TASK, outcome, word) == (event.provider, event.task, event.outcome, event.status)


@pytest.mark.parametrize("name", STATUS)
@pytest.mark.parametrize("status", ["", "SUCCESS", "Succeeded", "done", None, 1, True, [], {"a": 1}])
def test_a_word_that_nobody_knows_is_refused_aloud(name, status):
    assert f"`{STATUS[name]}` should be one of" in unreadable(name, sent(simplest(name, status)))


@pytest.mark.parametrize("name", STATUS)
@pytest.mark.parametrize(
    "task", ["", "a" * 256, "tab\t", "line\n", "é", "\x7f", "\x00", 7, None, True, ["a"], {}]
)
def test_a_task_that_nobody_could_have_bound_is_refused(name, task):
    word = next(words[0] for each, _, words in WORDS if each == name)
    field = next(iter(simplest(name, word)))
    assert f"`{field}` should be an id" in unreadable(name, sent({**simplest(name, word), field: task}))


@pytest.mark.parametrize("name", [*STATUS, "fal", "heygen"])
@pytest.mark.parametrize(
    "hostile",
    [
        b"", b" ", b"null", b"[]", b'"a"', b"1", b"{", b"{}{}", b"\xff", b"\x00", b"\xef\xbb\xbf{}",
        b"{'id':1}",
        b"[" * 200_000, b'{"a":' * 200_000, b'{"a":1e999999999}', b'{"a":-1e-999999999}', b'{"a":NaN}',
        b'{"a":"\\ud800"}', b'{"a":' + b"9" * 5000 + b"}", b'{"a":0e999999999999999999999}',
        b'{"a":1e' + b"9" * 100 + b"}",
    ],
    ids=lambda each: repr(each[:20]),
)  # fmt: skip
def test_bytes_that_are_no_object_are_refused(name, hostile):
    assert unreadable(name, Delivery({}, hostile))


@pytest.mark.parametrize("name", [each for each in PROVIDERS if each != "heygen"])
def test_an_empty_object_is_refused(name):
    assert unreadable(name, sent({}))


@pytest.mark.parametrize("name", PROVIDERS)
@pytest.mark.parametrize("outcome", ["succeeded", "failed", "progress"])
def test_what_is_simulated_is_read_as_it_was_meant(name, outcome):
    try:
        delivery = made(name, outcome)
    except NeverSent:
        assert (name, outcome) in [("fal", "progress"), ("heygen", "progress")]
        return
    event = READ[name](delivery)
    assert (name, outcome, TASK) == (event.provider, event.outcome, event.task)
    assert ("simulated failure" if outcome == "failed" and name != "generic" else None) == event.reason


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("replicate", ["metrics", "predict_time"]),
        ("sync", ["outputDuration"]),
        ("kling", ["billing", 0, "amount"]),
        ("generic", ["units"]),
    ],
)
def test_what_was_used_is_told_to_the_last_place(name, path):
    of = body(name, told(units=Decimal("12.000000000000000000000001")))
    found = READ[name](Delivery({}, of)).payload
    for step in path:
        found = found[step]
    assert "12.000000000000000000000001" == str(found)


def test_the_payload_keeps_numbers_as_they_were_written():
    event = READ["replicate"](Delivery({}, b'{"id":"a","status":"succeeded","metrics":{"predict_time":0.1}}'))
    assert Decimal("0.1") == event.payload["metrics"]["predict_time"]


@pytest.mark.parametrize("number", ["1e401", "-1e999999999", "1e-401", "0e999999999", "1e" + "9" * 100])
def test_a_number_that_nobody_could_compute_with_is_refused(number):
    whole = '{"id":"a","status":"succeeded","metrics":{"predict_time":%s}}'
    assert READ["replicate"](Delivery({}, (whole % "1e400").encode()))
    assert "out of range" in unreadable("replicate", Delivery({}, (whole % number).encode()))


@pytest.mark.parametrize(
    ("error", "kept"),
    [
        ("  out of\nmemory\x00\x1b[31m ", "out of memory [31m"),
        ("x" * 1000, "x" * REASON_MAX),
        ("é😀", "é😀"),
        ("\x00\x01", None),
        ("", None),
        (None, None),
        ({"detail": "a"}, None),
        (5, None),
    ],
)
def test_why_it_failed_is_kept_in_one_line_of_bounded_length(error, kept):
    assert kept == READ["replicate"](sent({"id": TASK, "status": "failed", "error": error})).reason


def test_what_succeeded_has_no_reason():
    assert READ["replicate"](sent({"id": TASK, "status": "succeeded", "error": "x"})).reason is None
    assert READ["kling"](sent({"id": TASK, "status": "succeeded", "message": "SUCCEED"})).reason is None


@pytest.mark.parametrize(
    ("name", "more"),
    [("fal", {"outcome": "progress"}), ("heygen", {"outcome": "progress"}), ("luma", {"units": Decimal(1)}),
     ("replicate", {"amount": 5}), ("stripe", {}), ("stripe", {"account": "alice"})],
)  # fmt: skip
def test_what_a_sender_never_sends_is_not_simulated(name, more):
    with pytest.raises(NeverSent):
        body(name, told(**more))

"""What a proven delivery means for the credits: its sender's words, old and new, and no others."""

from decimal import Decimal

import msgspec
import pytest

from app.webhooks import runway
from app.webhooks.event import Delivery, Event, Unreadable
from app.webhooks.payload import REASON_MAX
from app.webhooks.providers import PROVIDERS
from app.webhooks.simulated import NeverSent, body
from tests.webhooks.deliveries import NOW, RESERVATION, TASK, made, sent, told

READ = {name: provider.read for name, provider in PROVIDERS.items()} | {"runway": runway.read}

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


def unreadable(name: str, delivery: Delivery) -> str:
    with pytest.raises(Unreadable) as caught:
        READ[name](delivery)
    return str(caught.value)


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


# -- what is peculiar to one of them


def test_klings_older_words_count_as_its_newer():
    older = {
        "task_id": TASK,
        "task_status": "succeed",
        "task_status_msg": "",
        "task_info": {"external_task_id": RESERVATION.upper()},
        "final_unit_deduction": "3",
    }
    event = READ["kling"](sent(older))
    assert ("succeeded", "succeed", TASK, RESERVATION) == (
        event.outcome,
        event.status,
        event.task,
        event.reservation,
    )
    assert (
        "no money"
        == READ["kling"](sent({**older, "task_status": "failed", "task_status_msg": "no money"})).reason
    )


def test_of_both_spellings_of_kling_the_newer_counts():
    event = READ["kling"](sent({"id": TASK, "status": "failed", "task_id": "old", "task_status": "succeed"}))
    assert (TASK, "failed") == (event.task, event.outcome)


@pytest.mark.parametrize(
    "ours",
    [
        "",
        "order-7",
        None,
        5,
        "9876543210",
        "01a1ffa5-4956-4003-abd8-99c175348713",
        RESERVATION + "\n",
        [RESERVATION],
    ],
)
def test_an_id_that_the_shop_gave_kling_or_heygen_is_none_of_ours(ours):
    kling = {"id": TASK, "status": "succeeded", "external_id": ours}
    heygen = {"event_type": "avatar_video.success", "event_data": {"video_id": TASK, "callback_id": ours}}
    assert (None, None) == (READ["kling"](sent(kling)).reservation, READ["heygen"](sent(heygen)).reservation)


def test_our_own_id_is_found_where_the_payload_names_it():
    for name in ("kling", "heygen", "generic"):
        of = body(name, told(reservation=RESERVATION.upper()))
        assert RESERVATION == READ[name](Delivery({}, of)).reservation


@pytest.mark.parametrize("task_info", ["text", 5, [1]])
def test_a_part_of_klings_payload_that_is_no_object_is_refused(task_info):
    assert "`task_info` should be an object" == unreadable(
        "kling", sent({"id": TASK, "status": "succeeded", "task_info": task_info})
    )


def fal(headers: dict[str, str] | None = None, **fields: object) -> Delivery:
    of = {"request_id": TASK, "gateway_request_id": "other", "status": "OK", "payload": None, **fields}
    given = {"x-fal-webhook-request-id": TASK} if headers is None else headers
    return Delivery(given, msgspec.json.encode(of))


def test_a_result_of_fal_that_could_not_be_sent_is_a_success():
    event = READ["fal"](fal(payload_error="too large to be sent"))
    assert ("succeeded", None) == (event.outcome, event.reason)


def test_an_error_of_fal_is_a_failure_and_its_reason_is_kept():
    assert ("failed", "Invalid status code: 422") == (
        READ["fal"](fal(status="ERROR", error="Invalid status code: 422")).outcome,
        READ["fal"](fal(status="ERROR", error="Invalid status code: 422")).reason,
    )
    assert "no result" == READ["fal"](fal(status="ERROR", payload_error="no result")).reason


def test_a_task_of_fal_is_the_request_that_was_queued():
    assert TASK == READ["fal"](fal()).task


@pytest.mark.parametrize("headers", [{}, {"x-fal-webhook-request-id": "other"}])
def test_the_request_in_fals_header_must_be_the_one_in_its_body(headers):
    assert "x-fal-webhook-request-id" in unreadable("fal", fal(headers))


@pytest.mark.parametrize("status", ["ok", "COMPLETED", "", None, 1])
def test_fal_says_ok_or_error(status):
    assert "one of OK, ERROR" in unreadable("fal", fal(status=status))


@pytest.mark.parametrize(
    "kind", ["avatar_video_gif.success", "video_translate.success", "avatar_video.unknown", "x"]
)
def test_what_else_heygen_tells_is_noted_and_names_no_task(kind):
    event = READ["heygen"](sent({"event_type": kind, "event_data": {"video_id": TASK}}))
    assert Event(provider="heygen", outcome="progress", status=kind, payload=event.payload) == event


@pytest.mark.parametrize("fields", [{}, {"event_type": None}, {"event_type": 5}, {"event_type": ["a"]}])
def test_an_event_of_heygen_has_a_type(fields):
    assert "`event_type`" in unreadable("heygen", sent(fields))


@pytest.mark.parametrize(
    "about", [None, {}, "text", [], {"video_id": None}, {"video_id": 7}, {"video_id": ""}]
)
def test_a_video_of_heygen_that_ended_has_an_id(about):
    unreadable("heygen", sent({"event_type": "avatar_video.fail", "event_data": about}))


def test_the_unsigned_headers_of_heygen_change_nothing():
    plain = made("heygen")
    forged = plain._replace(headers={**plain.headers, "heygen-event-id": "x", "heygen-timestamp": "0"})
    assert READ["heygen"](plain) == READ["heygen"](forged)


# -- generic


@pytest.mark.parametrize("amount", [0, 1, 2**53 - 1])
def test_your_own_worker_may_say_what_is_confirmed(amount):
    assert amount == READ["generic"](sent({"taskId": TASK, "status": "succeeded", "amount": amount})).amount


@pytest.mark.parametrize("amount", [-1, 2**53, 1.0, "5", True, None, [5], 10**40])
def test_what_is_confirmed_is_a_whole_number_of_credits(amount):
    said = unreadable("generic", sent({"taskId": TASK, "status": "succeeded", "amount": amount}))
    assert "`amount` should be a whole number of credits" in said


@pytest.mark.parametrize("status", ["failed", "progress"])
def test_what_did_not_succeed_confirms_nothing(status):
    assert "belongs to" in unreadable("generic", sent({"taskId": TASK, "status": status, "amount": 5}))


@pytest.mark.parametrize("named", [{}, {"taskId": TASK, "reservationId": RESERVATION}])
def test_either_the_task_or_the_reservation_is_named(named):
    assert "either `taskId` or `reservationId`" in unreadable(
        "generic", sent({"status": "succeeded", **named})
    )


@pytest.mark.parametrize(
    "reservation", ["", "a", None, 5, RESERVATION[:-1], RESERVATION + "0", RESERVATION.replace("-", "")]
)
def test_a_reservation_is_named_as_it_was_answered(reservation):
    said = unreadable("generic", sent({"reservationId": reservation, "status": "succeeded"}))
    assert "`reservationId`" in said


def test_your_own_worker_may_send_its_result_along():
    event = READ["generic"](sent({"taskId": TASK, "status": "succeeded", "result": {"url": "https://a"}}))
    assert {"url": "https://a"} == event.payload["result"]


# -- why it failed


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


def test_moderated_work_says_so():
    assert "Content Moderated" == READ["bfl"](sent({"id": TASK, "status": "Content Moderated"})).reason


@pytest.mark.parametrize(
    ("name", "more"),
    [("fal", {"outcome": "progress"}), ("heygen", {"outcome": "progress"}), ("luma", {"units": Decimal(1)}),
     ("replicate", {"amount": 5}), ("stripe", {}), ("stripe", {"account": "alice"})],
)  # fmt: skip
def test_what_a_sender_never_sends_is_not_simulated(name, more):
    with pytest.raises(NeverSent):
        body(name, told(**more))


def test_a_time_of_bfl_is_written_as_bfl_does():
    assert "2026-06-10T08:39:54Z" == READ["bfl"](made("bfl", at=NOW)).payload["timestamp"]

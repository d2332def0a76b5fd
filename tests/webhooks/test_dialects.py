"""What only one of the providers says, or says in its own way."""

import msgspec
import pytest

from app.webhooks.event import Delivery, Event
from app.webhooks.simulated import body
from tests.webhooks.deliveries import NOW, RESERVATION, TASK, made, sent, told
from tests.webhooks.reading import READ, unreadable


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


def test_moderated_work_says_so():
    assert "Content Moderated" == READ["bfl"](sent({"id": TASK, "status": "Content Moderated"})).reason


def test_a_time_of_bfl_is_written_as_bfl_does():
    assert "2026-06-10T08:39:54Z" == READ["bfl"](made("bfl", at=NOW)).payload["timestamp"]

"""Every code of a problem: its status, its title, and a sentence that says what to do.

The engine's words come from `app.ledger.errors`; a test holds both sides equal.
"""

from typing import NamedTuple


class Row(NamedTuple):
    """A status and what people read. `detail` may name facts as `{name}`."""

    status: int
    title: str
    detail: str


LEDGER: dict[str, Row] = {
    "insufficient_credits": Row(
        402,
        "Not enough credits",
        "{required} credits are required and {available} are available. Grant credits or ask for fewer.",
    ),
    "credits_held": Row(
        402,
        "Credits are held by open reservations",
        "{required} credits are required, {available} are available and {held} are held by open reservations."
        " Confirm or cancel one, or wait until one runs out of time.",
    ),
    "account_not_found": Row(
        404, "No such account", "The account does not exist. A grant opens it; check the id otherwise."
    ),
    "reservation_not_found": Row(
        404,
        "No such reservation",
        "No such reservation exists here. Check the id, or the task and its provider.",
    ),
    "transaction_not_found": Row(
        404, "No such transaction", "No such transaction exists here. Check the id, as an answer gave it."
    ),
    "reservation_cancelled": Row(
        409,
        "The reservation was cancelled",
        "The reservation has been cancelled and its credits are released. Reserve again, or deduct.",
    ),
    "reservation_confirmed": Row(
        409,
        "The reservation was confirmed",
        "The reservation has been confirmed and its credits are spent. There is nothing left to cancel or to"
        " extend; a refund gives back what it spent.",
    ),
    "account_frozen": Row(
        409,
        "The account is frozen",
        "A frozen account takes no deduct, reserve, extend or charge. An operator sets its status to active.",
    ),
    "account_closed": Row(
        409,
        "The account is closed",
        "A closed account takes nothing. An operator sets its status to active.",
    ),
    "account_not_empty": Row(
        409,
        "The account is not empty",
        "Only an empty account can be closed: {available} credits are available and {held} are held."
        " Settle its reservations and adjust the rest to 0, or freeze it.",
    ),
    "overdraft_in_use": Row(
        409,
        "The overdraft is in use",
        "The account owes {debt} credits. Name a limit of at least that, or grant credits first.",
    ),
    "task_conflict": Row(
        409,
        "The task is taken",
        "The task belongs to another reservation, or the reservation to another task."
        " Use the reservation that has it, or another task id.",
    ),
    "reservation_expired": Row(
        410,
        "The reservation ran out of time",
        "The reservation ran out of time and its credits are released. Reserve again, deduct, or within 24"
        " hours of its deadline confirm with onExpired: charge, which takes from what is available.",
    ),
    "idempotency_mismatch": Row(
        422,
        "The key was used for another request",
        "This Idempotency-Key belongs to a request with other content."
        " Repeat that request exactly, or use a new key.",
    ),
    "already_expired": Row(
        422,
        "The expiry is not in the future",
        "Credits cannot be granted that have lapsed already. Name an expiresAt in the future, or none.",
    ),
    "exceeds_reservation": Row(
        422,
        "More than is held",
        "{required} credits were to be confirmed and {held} are held. Confirm at most that, or name"
        " overCapture: cap takes what is held, charge takes the rest from what is available.",
    ),
    "invalid_extension": Row(
        422,
        "The deadline would be earlier",
        "The reservation ends at {expires_at}, and this would make it {latest}. Name more ttlSeconds.",
    ),
    "not_refundable": Row(
        422,
        "Nothing to give back",
        "Only what a deduct or a confirm has spent can be refunded. Name one of those.",
    ),
    "exceeds_transaction": Row(
        422,
        "More than was spent",
        "{required} credits were to be refunded, {refunded} have been and {left} are left."
        " No more than what is left can be given back.",
    ),
    "balance_overflow": Row(
        422,
        "The balance would be too large",
        "A balance holds at most 9007199254740991 credits. Grant fewer.",
    ),
    "limit_reached": Row(422, "A limit is reached", "There are as many {what} as there may be: {limit}."),
    "batch_across_shards": Row(
        422,
        "The batch needs several servers",
        "All or nothing is possible for accounts of one server only. Send a batch for each, or one that is"
        " not atomic.",
    ),
    "batch_failed": Row(
        424,
        "Another operation of the batch failed",
        "The batch was all or nothing, and another operation was refused, so that this one changed nothing."
        " Mend the one that failedIndex names.",
    ),
    "ledger_unavailable": Row(
        503,
        "The ledger does not answer",
        "The ledger cannot answer now. Repeat the request with the same key.",
    ),
    "ledger_fenced": Row(
        503,
        "The ledger is fenced",
        "This part of the ledger refuses rather than serve what the journal does not confirm."
        " An operator must look at it; repeat with the same key later.",
    ),
    "journal_backlogged": Row(
        503,
        "The journal is behind",
        "Too much is waiting to be journaled. Repeat the request with the same key in a moment.",
    ),
    "overloaded": Row(
        503, "The service is at its limit", "The service is busy. Repeat with the same key in a moment."
    ),
    "internal_error": Row(
        500,
        "A bug",
        "Something went wrong that should not, and is logged."
        " Repeat with the same key: what was done is answered, and never done twice.",
    ),
}

_UNCHANGED = " This request changed nothing; repeat it with the same key."

SPECIAL: dict[tuple[str, str], str] = {
    ("ledger_unavailable", "full"): "Redis is full." + _UNCHANGED,
    ("ledger_unavailable", "not_persisting"): "Redis does not write to its disk as it must." + _UNCHANGED,
    ("ledger_unavailable", "read_only"): "Redis is a replica now and takes no writes." + _UNCHANGED,
    ("ledger_unavailable", "too_few_replicas"): "Redis has too few replicas to take writes." + _UNCHANGED,
    ("ledger_unavailable", "not_replicated"): "Too few replicas have acknowledged in time. The request may"
    " have been carried out: repeat it with the same key, and what was done is answered, never done twice.",
    ("ledger_unavailable", "journal"): "PostgreSQL is away, and only the journal in it knows what this"
    " request names." + _UNCHANGED,
    ("ledger_unavailable", "key"): "PostgreSQL is away, and whether this Idempotency-Key was used long ago"
    " stands only in the journal there: that is asked for each key of grant, refund and adjust, and for a"
    " UUIDv7 that is hours old." + _UNCHANGED,
    ("ledger_unavailable", "rate_card"): "The rate card has not been read yet, so nothing can be priced."
    + _UNCHANGED,
    ("ledger_unavailable", "token_keys"): "The keys of users' tokens could not be fetched, so that nobody can"
    " tell whose this one is. Repeat in a moment.",
    ("rate_limited", "key"): "One key or user may make {limit} requests a second, and as many at once after a"
    " silence. Repeat with the same Idempotency-Key after Retry-After.",
    (
        "rate_limited",
        "account",
    ): "At most {limit} operations a second may name one account, and as many at once"
    " after a silence. Repeat with the same Idempotency-Key in a moment, or after Retry-After.",
    ("overloaded", "memory"): "Redis has little memory left, so nothing new is taken on; confirm, cancel and"
    " reads go on. Repeat with the same key in a moment.",
    ("overloaded", "long_answers"): "As many exports are under way as may be. Repeat in a moment.",
    ("overloaded", "long_deliveries"): "As many long deliveries are being read as may be. Send it again.",
    (
        "overloaded",
        "webhooks",
    ): "PostgreSQL is away, and as many deliveries wait for it as may. Send it again in a moment.",
    ("unauthenticated", "delivery"): "This delivery does not prove who sent it. Nothing was done.",
    ("not_found", "door"): "Webhooks of this provider are not taken here; the settings turn them on.",
    ("not_found", "delivery"): "The inbox has no such delivery.",
    ("not_found", "endpoint"): "There is no such endpoint. The list of endpoints shows their ids.",
    ("not_found", "event"): "There is no such event, or no more: they are kept for 30 days.",
    ("limit_reached", "lots"): "The account has as many lots as it may have: {limit}. Use a bucket and an"
    " expiry that it has already, or wait until some of it is spent or lapses.",
    ("limit_reached", "holds"): "The account has as many open reservations as it may have: {limit}."
    " Confirm or cancel one, or wait until one runs out of time.",
    ("limit_reached", "extensions"): "The reservation has been extended as often as it may be: {limit} times."
    " Confirm or cancel it, and reserve again.",
    ("limit_reached", "parts"): "The reservation has been confirmed in as many parts as it may have: {limit}."
    " Confirm the rest with final=true.",
    ("limit_reached", "endpoints"): "There are as many endpoints as there may be: {limit}. Remove one first.",
    ("limit_reached", "models"): "The rate card has as many models as it may have: {limit}. Use one of them.",
}
"""What is said instead of a row's detail where the `cause` is known, or `what` has reached its limit."""

HTTP: dict[str, Row] = {
    "invalid_request": Row(400, "The request is not valid", "{why}"),
    "invalid_cursor": Row(
        400, "The cursor is not valid", "Start again without a cursor, with the same filters."
    ),
    "unauthenticated": Row(
        401,
        "Who are you?",
        "Send `Authorization: Bearer <api key>` with a key that is neither revoked nor expired, or a user's"
        " token in its place.",
    ),
    "forbidden": Row(403, "Not allowed", "{why}"),
    "model_not_found": Row(
        404,
        "No such model",
        "The rate card has no such model. Check the id, have an operator put it there, or name an amount.",
    ),
    "idempotency_key_required": Row(
        422,
        "A key is required",
        "A confirm that is not final must bring an Idempotency-Key, or its repetition would capture another"
        " part. Send one that is new for each part.",
    ),
    "not_found": Row(404, "Not found", "This path does not exist. /docs lists those that do."),
    "method_not_allowed": Row(
        405, "No such method", "This path does not take this method. Allow says which."
    ),
    "rate_limited": Row(429, "Too many requests", "At most {limit} a second. Repeat after Retry-After."),
    "body_too_large": Row(413, "The body is too large", "A body has at most {limit} bytes."),
}

TABLE = LEDGER | HTTP

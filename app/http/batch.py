"""`POST /api/credits/batch`: many operations in one request, each as if it came alone, or all or nothing.

A wrong shape fails the request, and nothing moves; after that each operation is answered for itself. Under
the same key it is the same request, whether it comes alone or in a batch.
"""

import asyncio
from collections.abc import Sequence

import msgspec
from litestar import Controller
from litestar.params import JSONBody
from msgspec import UNSET

from app.http import answers, noting
from app.http.auth import beyond
from app.http.batched import BatchAnswer, BatchBody, BatchedOperation, Result, alone
from app.http.bodies import Stamp, given
from app.http.handlers import told
from app.http.lookups import Lookups
from app.http.pace import count_accounts
from app.http.problems import Problem, body
from app.http.receipts import callback, is_conflict, journaled, made
from app.http.routes import several
from app.http.wire import Answer, LedgerRequest
from app.ledger.errors import BatchFailed, LedgerError, LedgerUnavailable, Overloaded, Unavailable
from app.ledger.operations import Reserve, Write
from app.ledger.receipts import Receipt

SCOPES = frozenset({"spend", "grant", "operate"})
"""One of them opens the door; each operation needs its own."""

RESULTS_A_TURN = 50
"""So few that nobody waits long for a turn, and so many that the turns cost nothing beside them."""

Failure = LedgerError | Problem
Outcome = Receipt | Failure

_WITH_RESERVATION = frozenset({"reserve", "confirm", "cancel", "extend"})


class Batch(Controller):
    """Many operations at once."""

    path = "/api/credits"
    tags = ("credits",)

    @several(
        "/batch",
        BatchBody,
        name="batch",
        scope=SCOPES,
        refusals=("idempotency_key_required", "batch_across_shards"),
        summary="Do many things at once",
    )
    async def batch(self, data: JSONBody[BatchBody], request: LedgerRequest) -> Answer[BatchAnswer]:
        """One after the other, each answered for itself; or with `atomic` all or nothing, and then
        `failedIndex` says of which it failed. One without a key of its own has `<Idempotency-Key>#<index>`.
        Tasks and transactions that they name are looked up before the first of them is done.
        """
        request.scope["asked"] = data  # type: ignore[typeddict-unknown-key]
        stamps = _stamps(request, data.operations)
        asked = await _asked(request, data.operations, stamps)
        outcomes, failed = await _carried_out(request, asked, atomic=data.atomic)
        results = await _results(request, data.operations, asked, outcomes)
        answer = BatchAnswer(results=results, failed_index=UNSET if failed is None else failed)
        receipts = [each for each in outcomes if isinstance(each, Receipt)]
        return Answer(answer, await journaled(request, receipts))


def _stamps(request: LedgerRequest, operations: Sequence[BatchedOperation]) -> list[Stamp]:
    """Under which key each is asked. The last of what belongs to the shape of the whole."""
    by, common = request.caller.principal.by, request.key()
    stamps = []
    for index, operation in enumerate(operations):
        key = given(operation.idempotency_key)
        if key is None and common is not None:
            key = f"{common}#{index}"
        if key is not None:
            stamps.append(Stamp(by, key, alone(operation).fingerprint()))
            continue
        try:
            operation.unkeyed()
        except Problem as problem:
            where = {"field": f"operations[{index}].idempotencyKey"}
            raise Problem(problem.code, {**problem.facts, **where}) from None
        stamps.append(Stamp(by, None, None))
    return stamps


async def _asked(
    request: LedgerRequest, operations: Sequence[BatchedOperation], stamps: Sequence[Stamp]
) -> list[Write | Failure]:
    """What each asks of the ledger, or why it cannot be asked."""
    barred = await _barred_all(request, operations)
    lookups = Lookups(request.parts, request.caller)
    for operation, stamp, why in zip(operations, stamps, barred, strict=True):
        if why is None:
            operation.wants(stamp, lookups)
    await lookups.look_up()
    return [
        why or _operation(operation, stamp, lookups)
        for operation, stamp, why in zip(operations, stamps, barred, strict=True)
    ]


async def _barred_all(request: LedgerRequest, operations: Sequence[BatchedOperation]) -> list[Problem | None]:
    """Why each may not be asked, or not now: of those that name one account, the last may be too many."""
    barred = [_barred(request, operation) for operation in operations]
    if request.parts.limiter is None:
        return barred
    named = {
        index: account
        for index, operation in enumerate(operations)
        if barred[index] is None and (account := operation.whose()) is not UNSET
    }
    refusals = await count_accounts(request.parts.limiter, request.scope, list(named.values()))
    for index, refusal in zip(named, refusals, strict=True):
        barred[index] = refusal
    return barred


def _barred(request: LedgerRequest, operation: BatchedOperation) -> Problem | None:
    """That the caller may not ask this."""
    caller = request.caller
    if not caller.principal.may(operation.scope, operation.verb):
        return beyond(operation.scope, caller.principal)
    try:
        caller.touches(operation.whose())
    except Problem as problem:
        return problem
    return None


def _operation(operation: BatchedOperation, stamp: Stamp, lookups: Lookups) -> Write | Failure:
    try:
        return operation.operation(stamp, lookups)
    except (LedgerError, Problem) as failure:
        return failure


async def _carried_out(
    request: LedgerRequest, asked: Sequence[Write | Failure], *, atomic: bool
) -> tuple[list[Outcome], int | None]:
    """What became of each; and the index of the one that an atomic batch failed of.

    Raises:
        LedgerError: There is no answer for any of them.
    """
    operations: list[Write] = []
    for index, each in enumerate(asked):
        if isinstance(each, Write):
            operations.append(each)
        elif isinstance(each, LedgerUnavailable | Overloaded) and atomic:
            raise each
        elif atomic:
            outcomes: list[Outcome] = [BatchFailed() for _ in asked]
            outcomes[index] = each
            return outcomes, index
    batched = await request.ledger.batch(operations, atomic=atomic)
    results = iter(batched.results)
    outcomes = [next(results) if isinstance(each, Write) else each for each in asked]
    first = outcomes[0]
    if isinstance(first, Unavailable) and all(isinstance(each, Unavailable) for each in outcomes):
        raise first
    return outcomes, batched.failed


async def _results(
    request: LedgerRequest,
    operations: Sequence[BatchedOperation],
    asked: Sequence[Write | Failure],
    outcomes: Sequence[Outcome],
) -> list[Result]:
    """What is told of each. Now and then others have a turn: above all the answers of Redis, which has
    nothing to do until they are taken in and the next call is sent.
    """
    results: list[Result] = []
    for each in zip(operations, asked, outcomes, strict=True):
        results.append(_result(request, *each))
        if len(results) % RESULTS_A_TURN == 0:
            await asyncio.sleep(0)
    return results


def _result(
    request: LedgerRequest, operation: BatchedOperation, asked: Write | Failure, outcome: Outcome
) -> Result:
    """What is told of one of them."""
    if isinstance(outcome, Problem):
        return msgspec.convert(body(outcome.code, outcome.facts) | {"replayed": False}, Result)
    if isinstance(outcome, LedgerError):
        keyed = isinstance(asked, Write) and asked.key is not None
        problem = told(outcome, keyed=keyed, restricted=request.restricted)
        noting.missed(request.parts, operation, outcome)
        return msgspec.convert(problem | {"replayed": outcome.replayed}, Result)
    entry = outcome.entry
    result = Result(
        status=operation.success,
        replayed=outcome.replayed,
        transaction=made(outcome),
        balance=answers.balance(entry.account, outcome.account),
    )
    if operation.verb in _WITH_RESERVATION and outcome.reservation is not None:
        result.reservation = answers.reservation(outcome.reservation)
    if isinstance(asked, Reserve):
        result.callback = callback(request, asked, outcome)
    if operation.verb == "adjust":
        result.shortfall = entry.shortfall or 0
    if isinstance(asked, Write) and is_conflict(asked, outcome):
        result.conflict = "amount"
        noting.contradicted(request.parts, outcome)
    return result

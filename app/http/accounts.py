"""`/api/credits/accounts/{id}`: the settings of an account."""

from typing import TypeVar

from litestar import Controller
from litestar.params import FromPath, JSONBody
from msgspec import UNSET, UnsetType

from app.http import shapes
from app.http.answers import Shown, Transaction
from app.http.crediting import SettingsBody
from app.http.receipts import headers, made
from app.http.routes import reading, setting
from app.http.wire import Answer, LedgerRequest
from app.ledger.replies import Account


class AccountShown(Shown, kw_only=True):
    """An account's settings, beside what it has."""

    account_id: str
    available: int
    held: int
    version: int
    overdraft_limit: int
    status: shapes.Status
    low_balance: int


class AccountChanged(AccountShown, kw_only=True):
    """The same, and the transaction that changed it; left out where nothing had to be changed."""

    transaction: Transaction | UnsetType = UNSET


A = TypeVar("A", bound=AccountShown)


class Accounts(Controller):
    """Settings of accounts."""

    path = "/api/credits/accounts/{account:str}"
    tags = ("accounts",)

    @reading(
        "",
        name="account",
        refusals=("account_not_found", "ledger_fenced"),
        summary="The settings of an account",
    )
    async def account(self, account: FromPath[str], request: LedgerRequest) -> Answer[AccountShown]:
        """Whether it may be charged, how far below zero, and below what whoever watches is told."""
        named = shapes.account_id(account)
        request.caller.touches(named)
        now = (await request.ledger.balance(named)).account
        return Answer(_shown(AccountShown, named, now))

    @setting(
        "",
        SettingsBody,
        name="configure",
        refusals=("account_closed", "account_not_empty", "overdraft_in_use"),
        summary="Change the settings of an account",
    )
    async def configure(
        self, account: FromPath[str], data: JSONBody[SettingsBody], request: LedgerRequest
    ) -> Answer[AccountChanged]:
        """Opens the account if need be. What is left out stays; what changes nothing makes no transaction."""
        named = shapes.account_id(account)
        request.caller.touches(named)
        request.heed_acknowledgement()
        operation = data.operation(request.caller.principal.by, named)
        done = await request.ledger.configure(operation)
        changed = _shown(AccountChanged, named, done.account)
        if done.receipt is None:
            return Answer(changed)
        changed.transaction = made(done.receipt)
        return Answer(changed, await headers(request, operation, done.receipt))


def _shown(of: type[A], named: str, account: Account) -> A:
    return of(
        account_id=named,
        available=account.available,
        held=account.held,
        version=account.version,
        overdraft_limit=account.overdraft_limit,
        status=account.status,
        low_balance=account.low_balance,
    )

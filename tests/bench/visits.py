"""An operator with a browser: signs in, opens every page, filters, searches and leafs on."""

import http.client
import re
import time
from collections.abc import Iterator, Mapping
from html import unescape
from typing import NamedTuple
from urllib.parse import urlencode

from app.dashboard.models import PERIODS
from app.dashboard.webhooks import STATUSES

SECONDS_MAX = 30.0
_OLDER = re.compile(r'rel="next" href="([^"]+)"')
_RESERVATION = re.compile(r'href="/dashboard/reservations/([0-9a-f-]{36})"')
_HEADERS = {"content-type": "application/x-www-form-urlencoded"}


class Page(NamedTuple):
    """How long its first byte took, and what it said."""

    seconds: float
    text: str


class Operator:
    """Over one connection, as browsers keep it."""

    def __init__(self, port: int, key: str, zone: str) -> None:
        self._address = f"127.0.0.1:{port}"
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS_MAX)
        form = urlencode({"key": key, "zone": zone})
        headers = _HEADERS | {"origin": f"http://{self._address}"}
        self._connection.request("POST", "/dashboard/login", form, headers)
        answer = self._connection.getresponse()
        answer.read()
        assert answer.status == 303, answer.status
        cookies = [each.partition(";")[0] for each in answer.msg.get_all("set-cookie", [])]
        self._cookie = {"cookie": "; ".join(cookies)}

    def open(self, path: str, poll: str = "") -> Page:
        """A page; `poll`: as the script asks for that part of it. A file is left after its first byte."""
        headers = self._cookie | ({"hx-request": "true", "hx-target": poll} if poll else {})
        begun = time.perf_counter()
        self._connection.request("GET", path, headers=headers)
        answer = self._connection.getresponse()
        first = answer.read(1)
        seconds = time.perf_counter() - begun
        assert answer.status == 200, (path, answer.status)
        if answer.headers["content-disposition"]:
            self._connection.close()
            return Page(seconds, "")
        rest = answer.read()
        return Page(time.perf_counter() - begun, (first + rest).decode())


class Visit(NamedTuple):
    """A path, and the part of its page that a poll asks for."""

    path: str
    poll: str = ""


def visits(operator: Operator, hot: str, task: str, delivery: int) -> Mapping[str, Visit]:
    """What there is to be looked at, by name.

    Args:
        operator: Looks for later pages.
        hot: An account with a very long timeline.
        task: Of a reservation.
        delivery: In the inbox.
    """
    return dict(_visits(operator, hot, task, delivery))


def _visits(operator: Operator, hot: str, task: str, delivery: int) -> Iterator[tuple[str, Visit]]:
    home = "/dashboard"
    for period in PERIODS:
        yield f"overview by {period}", Visit(f"{home}?period={period}")
        yield f"models of a {period}", Visit(f"{home}/models?period={period}")
    yield "overview, polled", Visit(home, "live")

    for name, path in _lists(hot, task).items():
        yield name, Visit(home + path)
        if older := _OLDER.search(operator.open(home + path).text):
            yield f"{name}, 2nd page", Visit(unescape(older[1]))

    polls = {"/reservations": ("open", "list"), f"/accounts/one?account={hot}": ("now", "timeline")}
    for path, parts in polls.items():
        for part in parts:
            yield f"{path.partition('?')[0]}, {part} polled", Visit(home + path, part)
    ended = operator.open(f"{home}/reservations?status=confirmed").text
    for name, text in {"open": operator.open(f"{home}/reservations").text, "ended": ended}.items():
        found = _RESERVATION.search(text)
        assert found is not None, name
        yield f"a reservation, {name}", Visit(f"{home}/reservations/{found[1]}")
    yield "an account like others", Visit(f"{home}/accounts/one?account=customer-00077777")
    for form in ("csv", "jsonl"):
        yield f"the hot account as {form}", Visit(f"{home}/accounts/export?account={hot}&format={form}")
    yield "journal", Visit(f"{home}/journal")
    yield "reconciliation", Visit(f"{home}/reconciliation")
    yield "reconciliation, polled", Visit(f"{home}/reconciliation", "runs")
    yield "webhooks, lately polled", Visit(f"{home}/webhooks", "lately")
    yield "a webhook", Visit(f"{home}/webhooks/{delivery}")
    yield "alerts", Visit(f"{home}/alerts")
    yield "keys", Visit(f"{home}/alerts/keys")


def _lists(hot: str, task: str) -> dict[str, str]:
    """Pages that have later pages, by name."""
    return {
        "reservations": "/reservations",
        "reservations, overdue": "/reservations?status=overdue",
        "reservations, confirmed": "/reservations?status=confirmed",
        "reservations, cancelled": "/reservations?status=cancelled",
        "reservations, expired": "/reservations?status=expired",
        "reservations, all": "/reservations?status=all",
        "reservations of a model": "/reservations?model=model-7",
        "reservations of a model, cancelled": "/reservations?status=cancelled&model=model-7",
        "reservations of a model, expired": "/reservations?status=expired&model=model-7",
        "reservations of no model": "/reservations?model=nothing",
        "reservations of no model, confirmed": "/reservations?status=confirmed&model=nothing",
        "reservations older than an hour": "/reservations?age=older",
        "reservations of a model, older than an hour, expired": (
            "/reservations?status=expired&model=model-7&age=older"
        ),
        "reservations of the hot account": f"/reservations?account={hot}",
        "reservations of the hot account, cancelled": f"/reservations?status=cancelled&account={hot}",
        "reservations of the hot account, of no model": (
            f"/reservations?status=all&account={hot}&model=nothing"
        ),
        "reservations of no account": "/reservations?account=nobody",
        "accounts": "/accounts",
        "accounts that begin with": "/accounts?q=customer-0004",
        "accounts that contain": "/accounts?q=99",
        "accounts that nobody is": "/accounts?q=nobody",
        "the hot account": f"/accounts/one?account={hot}",
        "webhooks": "/webhooks",
        "webhooks of a provider": "/webhooks?provider=luma",
        "webhooks of no provider": "/webhooks?provider=stripe",
        **{f"webhooks, {status}": f"/webhooks?status={status}" for status in STATUSES},
        "webhooks of a provider, refused": "/webhooks?provider=luma&status=refused",
        "webhooks of a task": f"/webhooks?task={task}",
        "webhooks of no task": "/webhooks?task=nothing",
    }

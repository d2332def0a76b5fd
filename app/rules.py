"""What is watched, and from which value on it is bad: one table for health and for alerts.

`LASTRO_THRESHOLDS` changes numbers: `expired_last_hour=20:200, backlog=0.4:`, the warning first, then what is
critical; nothing where it is never that.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType

from msgspec import Struct, structs

from app.health import CHECKS, Status

_GIVEN = re.compile(r"([a-z_]+)=([0-9.]*):([0-9.]*)", re.ASCII)


class Rule(Struct, frozen=True, kw_only=True):
    """One of them. `warning` and `critical`: the thresholds, `None` where there is none; what is not
    `numbered` is judged by what is found and not by a number. `fewer`: it is bad at or below them rather than
    at or above. `judged_from`: of how many on a rate says anything. `each`: it concerns one subject at a time
    (a delivery, a model), and there may be as many alerts.
    """

    name: str
    says: str
    warning: float | None = None
    critical: float | None = None
    numbered: bool = True
    fewer: bool = False
    judged_from: int = 0
    each: bool = False

    def judge(self, value: float) -> Status:
        """How bad a value is."""
        if self.critical is not None and self._crosses(value, self.critical):
            return "critical"
        if self.warning is not None and self._crosses(value, self.warning):
            return "warning"
        return "healthy"

    def _crosses(self, value: float, threshold: float) -> bool:
        return value <= threshold if self.fewer else value >= threshold

    def threshold(self, status: Status) -> float | None:
        """Which one a status has crossed."""
        return {"healthy": None, "warning": self.warning, "critical": self.critical}[status]


def _found(name: str, says: str, *, each: bool = False) -> Rule:
    return Rule(name=name, says=says, numbered=False, each=each)


_ALL = (
    Rule(
        name="overdue_reservations",
        says="Reservations that are still open a minute after their deadline",
        warning=1,
        critical=100,
    ),
    Rule(
        name="expired_last_hour",
        says="Reservations that ran out of time within the last hour",
        warning=10,
        critical=100,
    ),
    Rule(name="below_floor", says="Accounts that owe more than their credit line allows", critical=1),
    _found("reconciliation", "How the last comparison of Redis with the journal ended, and how long ago"),
    Rule(
        name="failure_rate",
        says="Of the reservations that ended within the last hour, the share that failed or ran out of time",
        warning=0.2,
        critical=0.5,
        judged_from=20,
    ),
    Rule(
        name="reservation_not_found",
        says="Of the requests of the last hour that named a reservation to end it, the share that found none",
        warning=0.05,
        critical=0.25,
        judged_from=10,
    ),
    Rule(name="journal_lag", says="Age in seconds of what PostgreSQL lacks", warning=10, critical=60),
    Rule(
        name="backlog",
        says="What PostgreSQL lacks, as a share of the bound at which new work is refused",
        warning=0.5,
        critical=0.9,
    ),
    Rule(name="workers", says="Workers at work; and whether cron is", warning=1, critical=0, fewer=True),
    Rule(name="failed_jobs", says="Jobs that failed within the last ten minutes", warning=1, critical=20),
    _found("redis_persistence", "Whether Redis answers, keeps what it says it has, and is the primary"),
    _found("redis_eviction", "Whether Redis may throw keys away, or has no room for more"),
    _found("fence", "What refuses: shards, accounts, a Redis that is not admitted, clocks that are apart"),
    _found("cleanup", "Whether clean-up runs by itself, and comes to an end"),
    _found(
        "postgres", "Whether PostgreSQL answers, keeps what it says it has, and has this release's tables"
    ),
    Rule(
        name="webhook_rejections",
        says="Deliveries of webhooks within the last hour that could not be verified",
        warning=20,
        critical=500,
    ),
    _found("webhook_conflict", "A webhook contradicts how its reservation ended", each=True),
    _found("webhook_refused", "A webhook asked for what the reservation does not allow", each=True),
    _found("webhook_unknown", "A webhook whose task nobody knew within a day", each=True),
    Rule(
        name="model_failure_rate",
        says="The same as `failure_rate`, of each model",
        warning=0.2,
        critical=0.5,
        judged_from=20,
        each=True,
    ),
    Rule(
        name="confirm_conflict",
        says="Confirms of the last hour that named another amount than the one which they repeated",
        warning=1,
    ),
    _found("backup", "Whether the last backup that was taken by itself came to an end"),
)

RULES: Mapping[str, Rule] = MappingProxyType({rule.name: rule for rule in _ALL})

assert tuple(RULES)[: len(CHECKS)] == CHECKS, "each check of health is a rule"


def read_rules(text: str) -> Mapping[str, Rule]:
    """All rules, with the thresholds that are given.

    Raises:
        ValueError: What is wrong with it, without the name of the setting.
    """
    rules = dict(RULES)
    for given in filter(None, (each.strip() for each in text.split(","))):
        found = _GIVEN.fullmatch(given)
        if found is None:
            raise ValueError(
                f"has {given!r}, where `<rule>=<warning>:<critical>` is wanted, as backlog=0.4:0.8"
            )
        if found[1] not in RULES:
            raise ValueError(f"has {given!r}, and no rule is called {found[1]}: there are {', '.join(RULES)}")
        rule = rules[found[1]]
        if not rule.numbered:
            raise ValueError(f"has {given!r}, and no number decides about {rule.name}")
        warning, critical = (_number(each, given) for each in found.groups()[1:])
        milder, worse = (critical, warning) if rule.fewer else (warning, critical)
        if milder is not None and worse is not None and milder > worse:
            wanted = "below" if rule.fewer else "above"
            raise ValueError(f"has {given!r}, and what is critical of {rule.name} is {wanted} the warning")
        rules[rule.name] = structs.replace(rule, warning=warning, critical=critical)
    return MappingProxyType(rules)


def _number(text: str, given: str) -> float | None:
    try:
        number = float(text) if text else None
    except ValueError:
        raise ValueError(f"has {given!r}, and {text} is no number") from None
    return int(number) if number is not None and number.is_integer() else number

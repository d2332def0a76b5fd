"""What a look has found, before anybody is told."""

from collections.abc import Sequence

from msgspec import Struct

from app.health import Status
from app.ledger.findings import FROM_GOOD_TO_BAD, Finding, Level
from app.rules import Rule

CALM = 0.8
"""An alert may end below so much of its mildest threshold; where fewer is worse, above that."""

_STATUSES: dict[Level, Status | None] = {
    "ok": "healthy",
    "warning": "warning",
    "critical": "critical",
    "unknown": None,
}


class Seen(Struct, frozen=True, kw_only=True):
    """Of one rule and one subject. `status` is `None` where it could not be told."""

    rule: Rule
    status: Status | None
    value: float | None = None
    message: str
    subject: str = ""

    @property
    def is_calm(self) -> bool:
        """Whether it is healthy, and not only just."""
        if self.value is None or not self.rule.numbered or self.rule.fewer:
            return self.status == "healthy"
        mildest = self.rule.critical if self.rule.warning is None else self.rule.warning
        return self.status == "healthy" and (mildest is None or self.value < mildest * CALM)


def counted(rule: Rule, value: float, message: str, *, do: str = "", subject: str = "") -> Seen:
    """By its thresholds. `do`: what to do, where it is not healthy."""
    status = rule.judge(value)
    says = message if status == "healthy" or not do else f"{message} {do}"
    return Seen(rule=rule, status=status, value=value, message=says, subject=subject)


def untold(rule: Rule, why: str) -> Seen:
    """Nobody can tell now."""
    return Seen(rule=rule, status=None, message=f"It cannot be told: {why}")


def found(rule: Rule, findings: Sequence[Finding], *, value: float | None = None) -> Seen:
    """As bad as the worst of what the doctor finds, too, and in its words."""
    worst = max((each.level for each in findings), key=FROM_GOOD_TO_BAD.index)
    told = [each for each in findings if each.level == worst]
    says = " ".join(f"{_ended(each.says)}{each.do and ' '}{each.do}" for each in told)
    return Seen(rule=rule, status=_STATUSES[worst], value=value, message=says)


def _ended(text: str) -> str:
    return text if text.endswith((".", ")")) else f"{text}."

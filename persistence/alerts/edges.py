"""When an alert begins, becomes worse and ends. Pure: what fires and what was seen in, changes out.

An alert begins when a threshold is crossed, once, however often that is seen. It ends when what was seen has
been calm for a while without a break: well below the threshold, so that whoever hovers about it is told once.
What nobody could tell changes nothing.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Literal, NamedTuple
from uuid import uuid4

from msgspec import structs

from app.alerts import Alert
from persistence.health.seen import Seen

CALM_FOR = timedelta(seconds=60)

GONE = "There is nothing to be seen of it any more."

Key = tuple[str, str]
"""Rule and subject."""


class Change(NamedTuple):
    """What has become of an alert: it `fires`, is `worse`, or is `over`; as it is from now on."""

    what: Literal["fires", "worse", "over"]
    alert: Alert


class Edges:
    """Remembers since when what fires has been calm; whoever takes over waits anew."""

    def __init__(self, calm_for: timedelta = CALM_FOR) -> None:
        self._calm_for = calm_for
        self._calm_since: dict[Key, datetime] = {}

    def changes(
        self, firing: Mapping[Key, Alert], seen: Sequence[Seen], now: datetime, *, rules: frozenset[str]
    ) -> list[Change]:
        """What is to be changed.

        Args:
            firing: What fires.
            seen: Of each rule and subject at most one.
            now: When it was seen.
            rules: Those that were looked at with all their subjects: what was not seen of them is gone.
        """
        found = {(each.rule.name, each.subject): each for each in seen}
        changes = []
        for key, each in found.items():
            if each.status in ("warning", "critical"):
                self._calm_since.pop(key, None)
                changes += _raised(firing.get(key), each, now)
        for key, alert in firing.items():
            there = found.get(key)
            calm = key[0] in rules if there is None else there.is_calm
            if not calm:
                if there is not None and there.status is not None:
                    self._calm_since.pop(key, None)
                continue
            if now - self._calm_since.setdefault(key, now) >= self._calm_for:
                del self._calm_since[key]
                changes.append(Change("over", structs.replace(alert, state="resolved", resolved_at=now)))
        self._calm_since = {key: at for key, at in self._calm_since.items() if key in firing}
        return changes


def _raised(alert: Alert | None, seen: Seen, now: datetime) -> list[Change]:
    assert seen.status in ("warning", "critical"), "what is seen to be bad"
    crossed = Alert(
        id=str(uuid4()) if alert is None else alert.id,
        rule=seen.rule.name,
        subject=seen.subject,
        level=seen.status,
        state="firing",
        since=now if alert is None else alert.since,
        resolved_at=None,
        value=seen.value,
        threshold=seen.rule.threshold(seen.status),
        message=seen.message,
    )
    if alert is None:
        return [Change("fires", crossed)]
    if alert.level == "warning" and seen.status == "critical":
        return [Change("worse", crossed)]
    return []

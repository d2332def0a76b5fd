"""What is said of many shards at once: those of which the same is true share one line."""

import re
from collections.abc import Iterable, Mapping, Sequence

RUNS_MAX = 16

_OF_A_SHARD = re.compile(r"Shard (\d+) (is|cannot) (.*)", re.DOTALL)


def named(shards: Sequence[int]) -> str:
    """`shard 3`, or `shards 0 to 4, 7`; of a great many runs the first. `shards`: at least one, in order."""
    runs: list[list[int]] = []
    for shard in shards:
        if runs and shard == runs[-1][-1] + 1:
            runs[-1].append(shard)
        else:
            runs.append([shard])
    more = f", ... ({len(shards):,} in all)" if len(runs) > RUNS_MAX else ""
    return f"shard{'s' * (len(shards) > 1)} {', '.join(map(_of_run, runs[:RUNS_MAX]))}{more}"


def says(shards: Sequence[int], one: str, several: str) -> str:
    """`shard 3 is open`, `shards 0 to 4 are open`."""
    return f"{named(shards)} {one if len(shards) == 1 else several}"


def alike(reasons: Mapping[int, str]) -> list[tuple[list[int], str]]:
    """Shards and the reason that they share, in order.

    A reason may name its own shard (`Redis has nothing of shard 3: ...`), and is still the same as that of
    another one that names itself; of several shards it then says `the shard`.
    """
    same: dict[str, list[int]] = {}
    for shard, why in sorted(reasons.items()):
        same.setdefault(re.sub(rf"\bshard {shard}\b", "the shard", why), []).append(shard)
    return [(shards, reasons[shards[0]] if len(shards) == 1 else why) for why, shards in same.items()]


def together(sentences: Iterable[str]) -> list[str]:
    """Sentences that begin with a shard, such as `Shard 3 is fenced: ...`; those that say the same of several
    shards as one, and all others as they are.
    """
    found: dict[str, dict[int, str]] = {"is": {}, "cannot": {}}
    others = []
    for each in sentences:
        if its := _OF_A_SHARD.fullmatch(each):
            found[its[2]][int(its[1])] = its[3]
        else:
            others.append(each)
    several = {"is": "are", "cannot": "cannot"}
    return [
        f"S{says(shards, verb, several[verb])[1:]} {why}"
        for verb, reasons in found.items()
        for shards, why in alike(reasons)
    ] + others


def _of_run(run: list[int]) -> str:
    if len(run) < 3:  # noqa: PLR2004 - `3, 4` is shorter than `3 to 4`
        return ", ".join(map(str, run))
    return f"{run[0]} to {run[-1]}"

"""Whether anybody is at work, and what has failed; asked of the queues."""

from collections.abc import Mapping

from app.ledger.findings import Finding
from app.queues import AtWork, Queues, QueuesUnavailable
from app.rules import Rule
from persistence.health.seen import Seen, counted, found, untold

NO_CRON = Finding("cron", "critical", "No cron: the workers are asked for nothing.", "Start `lastro cron`.")


async def of_workers(queues: Queues, rules: Mapping[str, Rule]) -> list[Seen]:
    """Workers with cron, and failed jobs."""
    try:
        at_work = await queues.look()
    except QueuesUnavailable as error:
        why = f"The queues' Redis does not answer: {error}"
        away = Finding("workers", "critical", why, "Bring it back: nothing is journaled without it.")
        return [found(rules["workers"], [away]), untold(rules["failed_jobs"], why)]
    return [_workers(at_work, rules["workers"]), _failed(at_work, rules["failed_jobs"])]


def _workers(at_work: AtWork, rule: Rule) -> Seen:
    alive = sum(each.alive for each in at_work.workers)
    if not at_work.cron:
        return found(rule, [NO_CRON], value=alive)
    do = "Start `lastro worker`, twice: a spare takes over within seconds."
    return counted(rule, alive, f"{alive} at work, and cron.", do=do)


def _failed(at_work: AtWork, rule: Rule) -> Seen:
    number = sum(each.failed for each in at_work.queues)
    if not number:
        return counted(rule, 0, "No job has failed.")
    says = f"{number:,} failed"
    if at_work.failed:
        says += f", the last one {at_work.failed[0].name}: {at_work.failed[0].error}"
    return counted(rule, number, f"{says}.", do="The workers' log has the whole.")

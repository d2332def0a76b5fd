"""Whether anybody is at work. Blocks for the answers of the queues' Redis."""

from redis.exceptions import RedisError

from app.ledger.findings import Finding
from persistence import alive


def of_queues(queue_url: str) -> list[Finding]:
    """Blocks for Redis' answers."""
    try:
        workers, cron = alive.workers(queue_url), alive.cron(queue_url)
    except (RedisError, OSError) as error:
        says = f"The queues' Redis does not answer: {error}"
        return [Finding("workers", "unknown", says, "Bring it back; then ask again.")]
    return [_workers(workers), _cron(cron)]


def _workers(workers: int) -> Finding:
    if workers > 1:
        return Finding("workers", "ok", f"{workers} workers at work")
    if workers:
        do = "Start a second `lastro worker`: a spare takes over within seconds."
        return Finding("workers", "warning", "1 worker at work, and no spare", do)
    return Finding("workers", "critical", "No worker: nothing is journaled.", "Start `lastro worker`, twice.")


def _cron(is_alive: bool) -> Finding:
    if is_alive:
        return Finding("cron", "ok", "cron is at work")
    return Finding("cron", "critical", "No cron: the workers are asked for nothing.", "Start `lastro cron`.")

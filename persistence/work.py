"""The worker process: RQ's loop around the workbench.

The first SIGTERM or SIGINT makes the slice that runs end early, and then the process ends. A second one, a
second or more later, ends it at once: a crash costs nothing either, somebody else goes on from the cursor.
"""

import contextlib
import os
import signal
import time
from datetime import UTC, datetime, timedelta
from types import FrameType

from redis import Redis
from redis.client import Pipeline
from redis.exceptions import RedisError
from rq import Queue, SimpleWorker
from rq.exceptions import StopRequested
from rq.worker import WorkerStatus

from persistence import jobs
from persistence.schedule import connect
from persistence.shifts import Watch
from persistence.told import Work
from persistence.workbench import Workbench

ALIVE_SECONDS = 15
RETRY_SECONDS = 1.0
WAIT_SECONDS = 2
"""How long an idle worker waits for a job before it shows itself again."""


class Worker(SimpleWorker):
    """RQ's worker that runs jobs in its own process, where the workbench is."""

    max_connection_wait_time = RETRY_SECONDS
    log_result_lifespan = False
    dequeue_timeout = WAIT_SECONDS
    connection_timeout = WAIT_SECONDS + 1

    def __init__(self, queues: Redis) -> None:
        # Tasks first: they are short, and there is always a slice of journaling to be had.
        super().__init__([jobs.TASKS_QUEUE, jobs.JOURNAL_QUEUE], connection=queues)

    def heartbeat(self, timeout: int | None = None, pipeline: Pipeline | None = None) -> None:
        """Shows itself anew to a Redis that has lost its data: RQ registers a worker at its birth only."""
        if pipeline is None and not self.connection.sismember(self.redis_workers_keys, self.key):
            self.connection.delete(self.key)
            self.register_birth()  # type: ignore[no-untyped-call]
        super().heartbeat(timeout, pipeline)

    def stop_after_job(self) -> None:
        """End the loop; from a signal handler.

        Raises:
            StopRequested: No job runs; whatever the loop was waiting for is given up.
        """
        if self.get_state() != WorkerStatus.BUSY:
            raise StopRequested
        self._stop_requested = True

    def _install_signal_handlers(self) -> None:
        """`run_worker` has its own, which outlive this worker."""

    def subscribe(self) -> None:
        """RQ would listen for commands here, in a thread that an outage of Redis leaves behind."""


class _Signals:
    """Takes SIGTERM and SIGINT for whichever worker there is."""

    def __init__(self, bench: Workbench) -> None:
        self._bench = bench
        self._first: float | None = None
        self.worker: Worker | None = None

    def __call__(self, _signal: int, _frame: FrameType | None) -> None:
        if self._first is None:
            self._first = time.monotonic()
            self._bench.ask_to_stop()
            if self.worker is None:
                raise StopRequested
            self.worker.stop_after_job()
        elif time.monotonic() - self._first >= 1:  # a terminal and a supervisor may both pass on one Ctrl-C
            os._exit(1)

    @property
    def came(self) -> bool:
        return self._first is not None


def run_worker(work: Work, watch: Watch | None = None) -> None:
    """Work until SIGTERM or SIGINT; `lastro worker`.

    To be called in the main thread, once in a process. Starts, and keeps trying, also while Redis or
    PostgreSQL are away. Any number of workers may run: those without work wait to take over from the others.
    `watch` makes who watches and tells.
    """
    bench = Workbench(work, watch)
    bench.open()
    jobs.bench.set(bench)
    signals = _Signals(bench)
    signal.signal(signal.SIGTERM, signals)
    signal.signal(signal.SIGINT, signals)
    with contextlib.suppress(StopRequested), connect(work.queue_url) as queues:
        while not signals.came:
            with contextlib.suppress(RedisError, OSError):  # RQ has logged it
                signals.worker = Worker(queues)
                signals.worker.work(logging_level="WARNING")
            signals.worker = None
            if not signals.came:
                time.sleep(RETRY_SECONDS)
    bench.close()


def workers_alive(queues: Redis) -> int:
    """How many workers have shown themselves within the last 15 s. Blocks for some answers of Redis."""
    since = datetime.now(UTC) - timedelta(seconds=ALIVE_SECONDS)
    workers = SimpleWorker.all(queue=Queue(jobs.JOURNAL_QUEUE, connection=queues))
    return sum(each.last_heartbeat is not None and each.last_heartbeat >= since for each in workers)

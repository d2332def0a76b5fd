"""A real Valkey and a real PostgreSQL from wheels, for `lastro up`, the tests and the benchmarks.

Production brings its own servers (docker-compose.yml). Nothing here daemonises, nothing listens beyond
127.0.0.1, nothing is left behind: servers die with the process that started them, also when it is killed.
They are started from the main thread (see `processes`) and by nobody else.
"""

from app.embedded.postgres import Postgres
from app.embedded.processes import CannotStart, Process
from app.embedded.valkey import Valkey

__all__ = ["CannotStart", "Postgres", "Process", "Valkey"]

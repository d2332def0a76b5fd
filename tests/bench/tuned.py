"""PostgreSQL as `docker-compose.yml` sets it: what is recommended is what is measured."""

from pathlib import Path

import yaml

_COMPOSE = Path(__file__).parents[2] / "docker-compose.yml"


def settings() -> dict[str, str]:
    """The settings of its command line, by name."""
    command = yaml.safe_load(_COMPOSE.read_text(encoding="utf-8"))["services"]["postgres"]["command"]
    return dict(argument.removeprefix("--").split("=", 1) for argument in command[1:])

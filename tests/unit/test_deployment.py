"""What can be said about Dockerfile, docker-compose.yml and the packaging without a Docker engine."""

import os
import re
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from itertools import chain
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from app.cli import cli
from app.settings import Settings, names
from tests.bench import tuned

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"
TEXT = COMPOSE.read_text(encoding="utf-8")
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(TEXT)["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"] == "lastro"}
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PINS = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()[1:]

GIVEN = {"REDIS_PASSWORD": "r", "POSTGRES_PASSWORD": "p"}


def interpolated(text: str) -> str:
    """What Compose makes of `${NAME:-default}` and `${NAME:?message}` when only the passwords are given."""
    return re.sub(
        r"\$\{(\w+)(?::([-?])([^}]*))?\}", lambda m: GIVEN.get(m[1]) or (m[3] if m[2] == "-" else ""), text
    )


def commands() -> list[tuple[str, list[str]]]:
    """Every use of `lastro`: as the command of a service, and in a health check."""
    used = [(name, service["command"]) for name, service in OURS.items()]
    checks = [
        (name, service["healthcheck"]["test"]) for name, service in OURS.items() if "healthcheck" in service
    ]
    used += [(f"{name} health", test[2:]) for name, test in checks if test[:2] == ["CMD", "lastro"]]
    return [*used, ("Dockerfile", ["api"])]


def test_the_compose_file_follows_the_compose_schema() -> None:
    schema = ["--builtin-schema", "vendor.compose-spec"]
    subprocess.run(
        [sys.executable, "-m", "check_jsonschema", *schema, str(COMPOSE)], check=True, env=dict(os.environ)
    )


def test_every_part_of_the_ledger_is_there() -> None:
    assert set(OURS) == {"migrate", "api", "worker", "cron"}
    assert set(SERVICES) == {*OURS, "redis", "postgres"}


@pytest.mark.parametrize(("where", "arguments"), commands())
def test_every_command_that_is_named_exists(where: str, arguments: list[str]) -> None:
    command: click.Command = cli.commands[arguments[0]]
    with command.make_context(arguments[0], arguments[1:]) as context:
        assert context.params, where


@pytest.mark.parametrize("name", OURS)
def test_every_variable_that_is_named_is_a_setting_with_a_good_value(name: str) -> None:
    variables = {key: interpolated(value) for key, value in OURS[name]["environment"].items()}
    assert set(variables) <= names()
    settings = Settings.read(variables)
    assert settings.redis_url == "redis://default:r@redis:6379/0"
    assert settings.database_url == "postgresql://lastro:p@postgres:5432/lastro"


def test_how_postgresql_is_set_is_what_the_docs_give_reasons_for() -> None:
    page = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
    assert dict(re.findall(r"^\| `([a-z_]+)` \| (\S+) \|", page, re.MULTILINE)) == tuned.settings()


def test_what_is_set_beside_the_compose_file_reaches_every_part_of_the_ledger_and_no_store() -> None:
    assert {name for name, service in SERVICES.items() if service.get("env_file") == ".env"} == set(OURS)


def test_no_secret_has_a_default_and_each_says_what_to_do() -> None:
    secrets = re.findall(r"\$\{(\w*(?:PASSWORD|SECRET|KEY|TOKEN)\w*)(:\?)?([^}]*)\}", TEXT)
    assert {name for name, _, _ in secrets} == set(GIVEN)
    assert all(mark == ":?" and message.startswith(f"set {name}") for name, mark, message in secrets)
    assert SERVICES["redis"]["command"][-2:][0] == "--requirepass"


def test_redis_keeps_everything_evicts_nothing_and_asks_for_a_password() -> None:
    command = " ".join(SERVICES["redis"]["command"])
    for option in (
        "--appendonly yes",
        "--appendfsync always",
        "--maxmemory-policy noeviction",
        "--requirepass ${R",
    ):
        assert option in command
    assert SERVICES["redis"]["volumes"] == ["redis:/data"]


def test_data_lives_in_volumes_and_the_stores_are_not_published() -> None:
    assert set(yaml.safe_load(TEXT)["volumes"]) == {"redis", "postgres", "backups"}
    assert SERVICES["worker"]["volumes"] == ["backups:/backups"]
    assert SERVICES["postgres"]["volumes"] == ["postgres:/var/lib/postgresql"]
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["api"]
    assert all(port.startswith("127.0.0.1:") for port in SERVICES["api"]["ports"])


def test_everything_that_keeps_running_has_a_health_check_and_time_to_end() -> None:
    for name, service in SERVICES.items():
        assert ("healthcheck" in service and "stop_grace_period" in service) == (name != "migrate"), name


def test_nothing_serves_before_the_ledger_is_founded() -> None:
    for name in ("api", "worker", "cron"):
        assert OURS[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
    for store in ("redis", "postgres"):
        assert OURS["migrate"]["depends_on"][store] == {"condition": "service_healthy"}


def test_our_containers_can_do_little() -> None:
    for name, service in OURS.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name


def test_the_image_runs_the_service_alone_and_not_as_root() -> None:
    final = DOCKERFILE.rpartition("\nFROM ")[2]
    assert re.search(r"^USER (?!0\b)\d+$", final, re.MULTILINE)
    assert 'ENTRYPOINT ["lastro"]' in final
    assert PROJECT["project"]["scripts"]["lastro"] == "app.cli:main"
    assert "embedded" not in DOCKERFILE
    assert final.count("COPY") == 1


def test_the_image_is_built_from_files_that_exist_and_are_let_in() -> None:
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    let_in = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    for name in " ".join(copied).split():
        assert (ROOT / name).exists(), name
        assert f"!{name}" in let_in


def test_every_file_that_the_service_reads_is_packaged() -> None:
    patterns = PROJECT["tool"]["setuptools"]["package-data"]
    for package in ("app", "lua", "persistence"):
        for path in (ROOT / package).rglob("*"):
            name = str(path.relative_to(ROOT / package))
            if path.is_file() and path.suffix not in {".py", ".pyc"}:
                globs = [pattern.replace("**/", "*") for pattern in patterns[package]]
                assert any(fnmatch(name, glob) for glob in globs), f"{package}/{name}"


def test_versions_are_exact_and_name_no_hosts() -> None:
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", pin) for pin in PINS)
    pinned = {re.sub(r"[-_.]+", "-", pin.partition("==")[0]).lower() for pin in PINS}
    extras = PROJECT["project"]["optional-dependencies"]
    wanted = [*PROJECT["project"]["dependencies"], *chain.from_iterable(extras.values())]
    names = {re.split(r"[\[<>=;]", each)[0].strip().lower() for each in wanted}
    assert names - {"lastro"} <= pinned  # an extra may name another one

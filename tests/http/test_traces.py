"""Traces, taken by a collector as real ones are."""

import subprocess
import sys

import pytest

from app.settings import SettingsError
from app.traces import begun
from persistence.api_keys import create
from tests.http.collector import attributes, collecting
from tests.http.conftest import ALL, _client, running
from tests.http.serving import create_app
from tests.http.steps import CREDITS, do, is_refused, setting

CALLER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


async def test_a_request_is_a_span_of_the_callers_trace_with_the_ledgers_in_it(
    settings, database, monkeypatch
):
    with collecting() as (url, collector):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        application = create_app(settings)
        async with running(application), _client(application, await create(database, "all", ALL)) as client:
            made = await client.post(
                f"{CREDITS}/grant",
                json={"accountId": "alice", "amount": 100, "metadata": {"note": "for nobody else"}},
                headers={"traceparent": CALLER},
            )
            assert 201 == made.status_code
            await is_refused(client, "deduct", 402, "insufficient_credits", accountId="alice", amount=1000)
            held = await do(client, "reserve", accountId="alice", amount=3)
            await setting(client, status="frozen")
    assert {"lastro"} == collector.services
    request, ledger = collector.one(f"POST {CREDITS}/grant"), collector.one("ledger grant")
    assert ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7") == (
        request.trace_id.hex(),
        request.parent_span_id.hex(),
    )
    assert (request.trace_id, request.span_id) == (ledger.trace_id, ledger.parent_span_id)
    assert (f"{CREDITS}/grant", 201) == (
        attributes(request)["http.route"],
        attributes(request)["http.response.status_code"],
    )
    assert ("alice", made.json()["transaction"]["id"]) == (
        attributes(ledger)["lastro.account"],
        attributes(ledger)["lastro.transaction"],
    )
    refused = collector.one("ledger deduct")
    assert ("insufficient_credits", 0) == (attributes(refused)["error.type"], refused.status.code)
    assert held["reservation"]["id"] == attributes(collector.one("ledger reserve"))["lastro.reservation"]
    assert "alice" == attributes(collector.one("ledger configure"))["lastro.account"]
    told = "".join(map(str, collector.spans))
    assert "for nobody else" not in told
    assert client.headers["authorization"].removeprefix("Bearer ") not in told


async def test_a_collector_that_is_away_holds_up_neither_requests_nor_the_end(
    settings, database, monkeypatch
):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    application = create_app(settings)
    async with running(application), _client(application, await create(database, "all", ALL)) as client:
        await do(client, "grant", accountId="alice", amount=100)


def test_without_a_word_of_it_no_exporter_is_imported():
    asked = "'opentelemetry.exporter' in sys.modules"  # redis imports the rest where it is installed
    code = f"import sys, app.main, app.traces; print(app.traces.begun({{}}), {asked})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "None False" == done.stdout.strip()


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_SERVICE_NAME": "lastro"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://one", "OTEL_TRACES_EXPORTER": "none"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://one", "OTEL_SDK_DISABLED": "True"},
    ],
)
def test_traces_are_off_where_nobody_says_where_to_or_they_are_switched_off(environment):
    assert begun(environment) is None


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"OTEL_TRACES_EXPORTER": "jaeger"}, "OTEL_TRACES_EXPORTER=jaeger should be otlp or none"),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://one", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "OTEL_EXPORTER_OTLP_PROTOCOL=grpc should be http/protobuf, the only one that is spoken",
        ),
    ],
)
def test_what_is_not_spoken_is_refused_with_what_would_be_right(environment, said):
    with pytest.raises(SettingsError, match=said):
        begun(environment)


def test_traces_that_are_asked_for_and_not_installed_say_what_to_install(tmp_path):
    (tmp_path / "opentelemetry").mkdir()
    (tmp_path / "opentelemetry" / "__init__.py").write_text("raise ImportError('not here')")
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", "api"],
        env={
            "PYTHONPATH": str(tmp_path),
            "LASTRO_REDIS_URL": "redis://127.0.0.1:1",
            "LASTRO_DATABASE_URL": "postgresql://127.0.0.1:1/none",
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://one",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert (2, True) == (done.returncode, "install lastro[otel], or unset it" in done.stderr), done.stderr
    assert "OTEL_EXPORTER_OTLP_ENDPOINT is set" in done.stderr

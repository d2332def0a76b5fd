"""Whether there are traces: a span for each request and one in it for what the ledger did, sent by OTLP.

On where the standard variables of OpenTelemetry say where to; what else they say (sampling, names, headers)
is read by OpenTelemetry itself. Otherwise nothing of it is used, and it need not be installed.
"""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from app.settings import SettingsError

if TYPE_CHECKING:
    from app.traces.spans import Traces

_PLACES = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_PROTOCOL = "http/protobuf"


def begun(environment: Mapping[str, str] = os.environ) -> "Traces | None":
    """What makes spans; `None`: nobody wants any. `environment`: of which OpenTelemetry reads its own again.

    Raises:
        SettingsError: Traces are asked for, and cannot be made as they are asked for.
    """
    asked = _asked(environment)
    if asked is None:
        return None
    try:
        from app.traces.spans import Traces  # noqa: PLC0415 - need not be installed
    except ImportError as error:
        raise SettingsError(
            f"{asked} is set, and OpenTelemetry is not installed ({error}); install lastro[otel], or unset it"
        ) from error
    return Traces()


def _asked(environment: Mapping[str, str]) -> str | None:
    """The variable that asks for traces.

    Raises:
        SettingsError: It asks for what is not spoken here.
    """
    exporter = environment.get("OTEL_TRACES_EXPORTER", "")
    if exporter == "none" or environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    asked = [name for name in ("OTEL_TRACES_EXPORTER", *_PLACES) if environment.get(name)]
    if not asked:
        return None
    if exporter not in ("", "otlp"):
        raise SettingsError(f"OTEL_TRACES_EXPORTER={exporter} should be otlp or none")
    for name in _PROTOCOLS:
        if environment.get(name, _PROTOCOL) != _PROTOCOL:
            raise SettingsError(
                f"{name}={environment[name]} should be {_PROTOCOL}, the only one that is spoken"
            )
    return asked[-1]

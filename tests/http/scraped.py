"""What a scrape says, by name and labels."""

import httpx
from prometheus_client.parser import text_string_to_metric_families

Samples = dict[str, dict[tuple[tuple[str, str], ...], float]]


async def scrape(client: httpx.AsyncClient) -> Samples:
    """`GET /metrics`, read as Prometheus reads it: names, labels in order, values."""
    answer = await client.get("/metrics")
    assert 200 == answer.status_code, answer.text
    return read(answer.text)


def read(text: str) -> Samples:
    """The samples of a scrape."""
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def value(samples: Samples, name: str, **labels: str) -> float | None:
    """One of them; `None`: it is not there."""
    return samples.get(name, {}).get(tuple(sorted(labels.items())))

"""The engine: what moves credits. Knows Redis; knows nothing of HTTP or SQL."""

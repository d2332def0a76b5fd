"""PostgreSQL: what credits are backed by. Knows the engine; knows nothing of HTTP."""

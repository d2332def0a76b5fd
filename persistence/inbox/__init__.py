"""The inbox of webhooks in PostgreSQL: what came in, what came of it, and what is tried again."""

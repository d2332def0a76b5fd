"""How entries reach PostgreSQL."""

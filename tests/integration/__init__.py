"""Against real servers: Valkey and PostgreSQL."""

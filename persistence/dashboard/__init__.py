"""What the dashboard's people need of PostgreSQL: their sessions, and the audit of what they did by hand."""

"""`lastro up`: a whole ledger on one machine, for development and for a look.

Starts our own Valkey and PostgreSQL, founds or resumes the ledger, runs the API, two workers and cron as
children, keeps them alive, and ends them in order. Production has docker-compose.yml run the same commands.
"""

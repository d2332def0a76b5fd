"""`lastro demo`: a shop for AI media that pays its jobs from a running ledger, and checks every credit after.

It knows the ledger over HTTP only, as any program of a customer would: nothing here imports the engine, the
API or PostgreSQL's side, so that what it finds out is what customers would find out.
"""

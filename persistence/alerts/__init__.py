"""Alerts: `edges` says when one begins and ends, `book` keeps them, `telling` sends them, `watching` does it
all from one process at a time, and `kept` is what people see.
"""

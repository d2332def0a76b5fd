"""How fast it is, on this machine: `python -m tests.bench`, which is what `make bench` runs.

Every row compares things within one run, in turns (A-B-B-A), because machines change their speed from one
second to the next: what is judged is mostly a ratio of two measurements that stand beside each other. Servers
are our own, in temporary folders, and end with the program. What was answered is counted against what is
stored: a row with a mismatch is missed, however fast it was.
"""

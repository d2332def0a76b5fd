"""Tell what each rule is for: `python -m tests.model` prints a shortest trace to what goes wrong."""

import sys

from tests.model.explore import explore, told
from tests.model.test_protocol import WITHOUT

for sentence, without in WITHOUT.items():
    explored = explore(without.rules, without.size, wanted=without.violation)
    sys.stdout.write(f"{sentence}\n{told(explored)}\n\n")

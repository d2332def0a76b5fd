"""The chaos suite: a whole ledger under load, whose parts are killed, stopped, cut off and starved of disk.

`python -m tests.chaos.storm --faults 200 --seed 1` (`make chaos`). One idea a file:

| file | idea |
|---|---|
| `stage` | the parts: real servers, two APIs behind bad wires, two workers, cron, each its own process |
| `scene`, `faults`, `disks`, `deck` | what may happen to them, and in which order |
| `town`, `jobs` | those who ask: what they want, at what pace |
| `asking`, `answers` | asking until the answer is definite, and what may be answered |
| `records` | what was asked, and what came of it |
| `settling` | waiting until everything is well again |
| `history` | the journal as PostgreSQL has it, folded and proved |
| `audit` | what was answered, held against the history |
| `stores` | Redis held against PostgreSQL |
| `proofs` | what the ledger finds when it looks at itself |
| `inspection` | all of these together: a calm in which everything is checked |
| `storm`, `report` | rounds of faults, and the table at the end |
| `sabotage` | a ledger with one rule broken on purpose, to see that the storm notices |

A seed fixes the faults, their order and what is asked; the moments at which they meet are the machine's.
"""

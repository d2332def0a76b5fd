"""How seldom Python looks for cycles in a process that serves."""

import gc


def spare() -> None:
    """What is there at the start stays for ever, and a request or an entry leaves hardly any cycles: at
    Python's usual thresholds the collector would look at all of it hundreds of times a second, a tenth of the
    API's time and a seventh of the journal's.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)

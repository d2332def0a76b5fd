"""What ends a run before anything can be said about the credits."""


class CannotTell(Exception):
    """One sentence for people: nobody answers, a key is not taken, the journal does not catch up."""

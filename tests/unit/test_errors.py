"""What can go wrong, as one tree."""

from app.ledger import errors
from app.ledger.errors import InsufficientCredits, InternalError, LedgerError, Refused, Unavailable, leaves


def test_every_leaf_has_a_word_of_its_own():
    words = [each.word for each in leaves().values()]
    assert len(words) == len(set(words)) == len(leaves())
    assert all(word == each.word for word, each in leaves().items())


def test_only_leaves_have_words():
    for each in (LedgerError, Refused, Unavailable):
        assert not hasattr(each, "word")


def test_every_error_is_a_refusal_an_unavailability_or_a_bug():
    assert all(issubclass(each, Refused | Unavailable | InternalError) for each in leaves().values())


def test_every_class_of_the_module_is_in_the_tree():
    classes = {
        each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, LedgerError)
    }
    assert classes - {LedgerError, Refused, Unavailable} == set(leaves().values())


def test_an_error_carries_its_facts_and_is_no_replay_unless_told():
    error = InsufficientCredits(required=5, available=1, held=0)
    assert ({"required": 5, "available": 1, "held": 0}, False) == (error.facts, error.replayed)

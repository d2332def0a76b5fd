"""What is compared is measured in turns."""

from tests.bench.sizes import Sizes, Told, in_turns


def test_each_comes_first_as_often_as_last_and_the_warm_up_does_not_count(told: Told):
    seen: list[tuple[str, float]] = []

    def measured(name: str, seconds: float) -> float:
        seen.append((name, seconds))
        return float(len(seen))

    things = {name: lambda seconds, name=name: measured(name, seconds) for name in "ab"}
    found = in_turns(things, Sizes(2, 3.0, 0), told)
    warm_up, measurements = seen[:2], seen[2:]
    assert sorted(warm_up) == [("a", 1.0), ("b", 1.0)]
    assert measurements == [("a", 3.0), ("b", 3.0), ("b", 3.0), ("a", 3.0)]
    assert {name: list(each.values) for name, each in found.items()} == {"a": [3.0, 6.0], "b": [4.0, 5.0]}

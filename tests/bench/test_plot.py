"""The pictures of docs/benchmarks.md: well-formed, and every value where it belongs."""

from xml.etree import ElementTree as ET

import pytest

from tests.bench.plot import COLUMNS, HEIGHT, WIDTH, Panel, draw, place, short

SIZES = (1_000, 10_000, 100_000)
SVG = "{http://www.w3.org/2000/svg}"


def test_a_cost_that_is_level_is_a_level_line_and_sizes_stand_apart_by_their_ratios():
    places = place(SIZES, (5.0, 5.0, 5.0))
    (first, second, third), tops = [left for left, _ in places], {top for _, top in places}
    assert len(tops) == 1
    assert second - first == pytest.approx(third - second)


def test_a_panel_begins_at_zero_so_that_half_the_cost_is_half_the_height():
    (_, half), (_, whole) = place((10, 20), (4.0, 8.0))
    (_, zero), _ = place((10, 20), (0.0, 8.0))
    assert zero - half == pytest.approx(half - whole)
    assert zero > whole


@pytest.mark.parametrize("values", [(0.0, 0.0, 0.0), (1.0, 2e9, 0.1)])
def test_every_panel_is_drawn_within_its_own_place(values: tuple[float, ...]):
    panels = [Panel(f"<{number}> & co", "ms", values) for number in range(COLUMNS + 1)]
    root = ET.fromstring(draw("cost & size", SIZES, panels))  # noqa: S314 - our own
    assert root.get("viewBox") == f"0 0 {COLUMNS * WIDTH} {2 * HEIGHT}"
    groups = root.findall(f"{SVG}g")
    assert [group.get("transform") for group in groups] == [
        *(f"translate({column * WIDTH} 0)" for column in range(COLUMNS)), f"translate(0 {HEIGHT})",
    ]  # fmt: skip
    for number, group in enumerate(groups):
        assert group.find(f"{SVG}text").text == f"<{number}> & co"
        dots = group.findall(f"{SVG}circle")
        assert len(dots) == len(SIZES)
        for dot in dots:
            assert 0 < float(dot.get("cx")) < WIDTH
            assert 0 < float(dot.get("cy")) < HEIGHT


def test_one_size_alone_is_drawn_too():
    assert ET.fromstring(draw("", (7,), [Panel("a", "", (3.0,))])) is not None  # noqa: S314


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (0.01234, "0.0123"), (9.96, "9.96"), (178.4, "178"), (9999.0, "9,999"), (12_345.0, "12.3k"),
     (4_200_000.0, "4.2M"), (3e9, "3G")],
)  # fmt: skip
def test_numbers_are_short(value: float, text: str):
    assert short(value) == text

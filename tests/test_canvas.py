"""What all figures share."""

from __future__ import annotations

from kaizen.report.canvas import new_figure


def test_a_long_title_leaves_room_for_the_panels() -> None:
    for title in ("word " * 4000, "x" * 20_000):
        lines = new_figure(4, 3, title).get_suptitle().split("\n")
        assert len(lines) == 4 and lines[-1].endswith("…")
    assert new_figure(4, 3, "Digits: accuracy").get_suptitle() == "Digits: accuracy"

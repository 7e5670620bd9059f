"""The page of what the project survives is that of its records."""

from __future__ import annotations

from tests.trials.reliability_page import PAGE, page


def test_the_page_is_written_from_the_records():
    assert PAGE.read_text(encoding="utf-8") == page()

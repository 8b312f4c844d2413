"""docs/settings.md says what the code does."""

from __future__ import annotations

from tests.docs.render_settings import PAGE, render


def test_settings_page_is_up_to_date() -> None:
    assert PAGE.read_text() == render(), "run: python -m tests.docs.render_settings"

"""docs/gradio.md: the program shows a page that answers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.docs.program import serving

PAGE = (Path(__file__).parents[2] / "docs/gradio.md").read_text()


@pytest.mark.filterwarnings("ignore")  # Gradio's own
def test_the_page_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gradio_client import Client

    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "False")
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    with serving(tmp_path, program) as port:
        client = Client(f"http://127.0.0.1:{port}/", verbose=False, download_files=False)
        assert client.predict("abc", api_name="/reverse") == "cba"
        client.close()

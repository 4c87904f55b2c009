"""Every command of the pages in `how-to/` is run: see `test_commands.py`."""

from __future__ import annotations

import pytest

from tests.docs.pages import HOW_TOS, name_of
from tests.docs.sandbox import Sandbox


@pytest.mark.parametrize("sandbox", HOW_TOS, indirect=True, ids=name_of)
def test_the_commands_of_a_page_do_as_it_says(sandbox: Sandbox) -> None:
    sandbox.follow()

"""``python -m tests.forms``: write down the outward forms of now, once the changelog tells of what
has changed."""

import sys

from tests.forms.forms import write

if __name__ == "__main__":
    sys.exit(write() or 0)

"""``python -m refdriver`` is the ``refdriver`` command."""

import sys

from refdriver.cli import main

sys.exit(main())

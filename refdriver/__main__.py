"""``python -m refdriver`` is the ``refdriver`` command."""

from refdriver.cli import main

main(prog_name="refdriver")

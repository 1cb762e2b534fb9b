"""``python -m conformance`` is the ``overlay-conformance`` command."""

from conformance.cli import main

main(prog_name="overlay-conformance")

"""How a worker starts: ``python -m conformance.harness.starting MODULE`` is ``python -m MODULE``, in less time.

A worker imports some 600 modules, and what they define stays. The garbage collector would look through all of
it each time that there is more, which is a tenth of the time until the first test. So it is off until the
worker serves its task (conformance.harness.serving), and leaves what was imported alone from then on
(gc.freeze).
"""

from __future__ import annotations

import gc
import runpy
import sys

if __name__ == "__main__":
    gc.disable()
    runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)

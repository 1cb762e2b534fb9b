"""What other projects' suites find of the mutants that this suite is measured by (docs/neighbours.md).

``python -m benchmarks.neighbours`` builds their tests from Debian's packages of their sources, with adapters of its
own in ``go/``, and runs them on every mutant that can be reached like that.
"""

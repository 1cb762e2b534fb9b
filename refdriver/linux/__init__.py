"""The system calls that the standard library lacks, one thin function each.

They raise :class:`OSError` with the kernel's errno and decide nothing; policy lives with the callers.
"""

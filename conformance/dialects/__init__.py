"""Drivers as they are used from a shell, for the scripts of failures: each by its own commands."""

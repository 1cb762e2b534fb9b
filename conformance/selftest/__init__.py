"""Mutation testing of the suite: mutants that it must kill, and variants that it must not call wrong."""

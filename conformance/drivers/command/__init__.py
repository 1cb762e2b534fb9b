"""Any driver that is a command: an adapter of another package says its words (docs/command-driver.md)."""

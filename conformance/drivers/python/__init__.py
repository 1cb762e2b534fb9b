"""Drivers that are Python classes, each in a host process of its own."""

"""Layers as tar archives: writing them, reading them, unpacking them."""

"""Real drivers: builds of distributions, each unpacked into a root of its own, judged, and kept as data."""

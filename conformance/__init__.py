"""A conformance suite for container-storage overlay drivers."""

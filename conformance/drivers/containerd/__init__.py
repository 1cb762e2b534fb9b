"""Snapshotters of containerd: the adapter, and the reproducer's commands (ctr)."""

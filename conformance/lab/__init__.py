"""What touches the machine: namespaces, mounts and scratch directories."""

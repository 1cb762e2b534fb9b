"""Docker graph-driver plugins: JSON over HTTP on a unix socket."""

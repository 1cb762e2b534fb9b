"""Anything that mounts an overlay of directories: the kernel, and commands such as fuse-overlayfs."""

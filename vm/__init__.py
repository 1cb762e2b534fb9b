"""Kernels and backing filesystems: the suite in virtual machines, from one file, ``matrix.yaml``."""

"""Drivers of containers/storage, behind the containers-storage command."""

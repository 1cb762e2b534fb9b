"""Drivers under test: the protocol, the registry of kinds, and a folder for each kind."""

"""What runs tests against a driver: stores, sessions, the pytest plugin, the worker and the preflight."""

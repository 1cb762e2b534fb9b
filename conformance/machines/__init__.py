"""State machines: histories of calls, with a model that knows what may come of them."""

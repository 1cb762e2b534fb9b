"""A reference implementation of the overlay graph driver of containers/storage, with its errors put right."""

"""Commands that unpack an image: its layers, one over the other, into a directory or a tar archive."""

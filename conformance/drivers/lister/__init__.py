"""Commands that list the paths of an image, and unpack nothing."""

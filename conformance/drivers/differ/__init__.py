"""Commands that compare two directories and write the archive of a layer."""

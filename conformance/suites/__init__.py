"""The properties, one file for each family of requirements."""

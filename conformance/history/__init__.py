"""What was done to a driver, as values: steps, findings, and the case files that hold them."""

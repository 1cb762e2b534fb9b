"""What a failure leaves: the evidence folder, its reproducer, and the last look of a reproducer."""

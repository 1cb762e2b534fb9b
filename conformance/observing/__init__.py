"""What a driver does where the specification of layers leaves it open: questions, observations and their table."""

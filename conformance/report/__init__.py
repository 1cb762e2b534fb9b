"""Reports: one result file (JSON lines) in, and what people and machines read of it out."""

"""What the embedder reaches on this machine, beside what it could reach."""

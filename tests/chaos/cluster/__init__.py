"""A cluster under load whose processes are killed, held against a simple oracle."""

"""A retriever process under random operations, kills and damage, held against a simple oracle."""

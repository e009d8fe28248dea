"""A retriever that follows the store of another, and only reads."""

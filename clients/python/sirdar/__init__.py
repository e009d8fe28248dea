"""Client of Sirdar, a self-hosted semantic search system."""

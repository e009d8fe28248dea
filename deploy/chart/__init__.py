"""The Helm chart: its schema of values, and what it renders."""

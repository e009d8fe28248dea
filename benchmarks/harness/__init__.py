"""What the benchmarks of servers have in common: callers, a no-op server, arithmetic."""

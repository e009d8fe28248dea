"""All tiers as processes of one machine: `sirdar up`, the demo, tests and benchmarks."""

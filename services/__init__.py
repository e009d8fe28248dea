"""The services of Sirdar: runtime, inference and the tiers behind the gateway."""

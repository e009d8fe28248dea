"""The gateway beside the tiers behind it, and beside the program that anyone would write first."""

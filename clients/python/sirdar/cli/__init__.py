"""The command `sirdar`."""

"""The gateway's HTTP server: the contract as JSON, and doors that other APIs' clients fit."""

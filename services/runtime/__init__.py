"""What the four tiers share as gRPC servers and clients of each other."""

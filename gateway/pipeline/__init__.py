"""What one search goes through, from the request to the answer."""

"""Evaluation of search quality."""

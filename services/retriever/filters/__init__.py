"""Filters: conditions on the metadata of documents, and the columns that answer them."""

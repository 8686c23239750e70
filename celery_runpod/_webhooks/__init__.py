"""Webhooks: the signed URL, and what a view does with a request."""

"""Mistral's API."""

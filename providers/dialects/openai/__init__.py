"""OpenAI and every server that speaks its format: the canonical form itself."""

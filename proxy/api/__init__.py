"""The management API: `/api/v1/`, for operators' sessions and for callers' own keys. Not on the hot path."""

"""The admin's page of one request: what was tried and why it moved on, what it cost, where time went."""

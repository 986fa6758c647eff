"""Idempotency-Key: a POST that is sent again under its key gets the answer that it has had, and is paid once.

What is kept is the reply as it went out, in the client's own format, so that it is the same room for every
endpoint. Who sends no key pays a look into a dictionary.

    naming      the header, whom it belongs to, and what tells one request from another
    stored      a reply as it is kept, and given again
    turns       one request at a time under a key: who goes first, who waits
    keyed       the story of one request with a key
"""

"""The names of the formats that clients speak, and that some vendors speak too.

`CHAT` is also the canonical form. A format without a name here is a vendor's own: a dialect reads it
into the canonical form and nobody else ever sees it.
"""

CHAT = "openai.chat"
COMPLETIONS = "openai.completions"
EMBEDDINGS = "openai.embeddings"
RESPONSES = "openai.responses"
MESSAGES = "anthropic.messages"
COUNT_TOKENS = "anthropic.count_tokens"
# Of a request that is passed on unread, in whatever format it is.
UNREAD = ""

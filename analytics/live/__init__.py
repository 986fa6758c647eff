"""The live feed: requests as they finish, told to whoever watches.

finished requests -> feed (each process's: samples, counts) -> channel layer -> consumer -> browser

While nobody watches, a process does nothing but look at one flag per request.
"""

"""An HTTP/1.1 client for one purpose: asking a vendor, fast, and telling exactly how it failed.

    pool = Pool(origin, limit=100, addresses=Addresses(), tls=context)
    connection = pool.kept() or await pool.take(connect_s=5.0)
    reply = connection.send(head, body, max_bytes=1 << 20)
    await reply.head()           # reply.status, reply.headers
    while piece := await reply.piece():
        ...

Bytes are parsed by llhttp (httptools); what is here is the life of connections. A general client
costs a gateway more than all of its own work: this one has no redirects, cookies, proxies, sessions
or form bodies. Nothing outside `proxy.transport` imports it.
"""

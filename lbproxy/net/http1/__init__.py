"""HTTP/1.1 on sockets: connections of clients and of backends, and those that wait to be used again."""

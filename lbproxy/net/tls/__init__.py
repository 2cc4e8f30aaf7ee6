"""TLS on the sockets of sessions: OpenSSL, through pyOpenSSL and the binding that it stands on.

One file per question: `profiles` which versions, ciphers and groups; `contexts` how OpenSSL is told; `channel` what a
side asks of TLS, and the portable way; `socket_channel` the fast way, `binding` the calls for it, `way` which of the
two; `sites` which certificate and policy a server name gets; `handshakes` how many at once; `clients` TLS to backends;
`facts` what a handshake told us; `failures` what its errors mean, `complaints` how often the log hears of them.
"""

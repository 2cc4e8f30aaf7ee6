"""The phases of a relay.

The phases, in order; each line is what may come next:

    HEADER     a PROXY header is awaited         -> HELLO, QUEUE, CONNECT, OVER
    HELLO      a TLS ClientHello is awaited      -> HANDSHAKE, QUEUE, CONNECT, OVER
    HANDSHAKE  TLS with the client is agreed on  -> QUEUE, CONNECT, OVER
    QUEUE      all backends are full             -> CONNECT, OVER
    CONNECT    a backend is being dialled        -> CONNECT (another one), QUEUE, DATA, OVER
    DATA       bytes go both ways                -> CONNECT (reset before any byte), ENDING, OVER
    ENDING     one side was reset; the other still gets what is on its way to it -> OVER
    OVER       both sides are closed, the record is written
"""

HEADER, HELLO, HANDSHAKE, QUEUE, CONNECT, DATA, ENDING, OVER = range(8)
PHASES = ("header", "hello", "handshake", "queue", "connect", "data", "ending", "over")

"""The phases of a session.

Those of a relay, in order; each line is what may come next:

    HEADER     a PROXY header is awaited         -> HELLO, QUEUE, CONNECT, OVER
    HELLO      a TLS ClientHello is awaited      -> HANDSHAKE, QUEUE, CONNECT, OVER
    HANDSHAKE  TLS with the client is agreed on  -> QUEUE, CONNECT, OVER
    QUEUE      all backends are full             -> CONNECT, OVER
    CONNECT    a backend is being dialled        -> CONNECT (another one), QUEUE, DATA, OVER
    DATA       bytes go both ways                -> CONNECT (reset before any byte), ENDING, OVER
    ENDING     one side was reset; the other still gets what is on its way to it -> OVER
    OVER       both sides are closed, the record is written

A conversation in HTTP has the same beginning, then REQUEST (a request is awaited, or an exchange under way), TUNNEL
(bytes go both ways after an upgrade) and OVER. Its exchanges go through

    QUEUE      as above                          -> CONNECT, LAST, OVER
    WAITING    another exchange has asked for the same -> CONNECT, DATA, LAST, OVER
    CONNECT    as above, pauses before a further try included -> ANSWER, QUEUE, LAST, OVER
    ANSWER     the request is sent, its answer is awaited     -> CONNECT (a further try), DATA, LAST, TUNNEL, OVER
    DATA       the answer's body comes           -> LAST, OVER
    LAST       the client still has to take the end of the answer -> OVER
    TUNNEL     as above                          -> OVER
"""

HEADER, HELLO, HANDSHAKE, QUEUE, CONNECT, DATA, ENDING, OVER, REQUEST, ANSWER, LAST, TUNNEL, WAITING = range(13)
PHASES = (
    "header",
    "hello",
    "handshake",
    "queue",
    "connect",
    "data",
    "ending",
    "over",
    "request",
    "answer",
    "last",
    "tunnel",
    "waiting",
)

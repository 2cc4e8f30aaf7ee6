"""The phases of a relay.

The phases, in order; each line is what may come next:

    HEADER   a PROXY header is awaited         -> QUEUE, CONNECT, OVER
    QUEUE    all backends are full             -> CONNECT, OVER
    CONNECT  a backend is being dialled        -> CONNECT (another one), QUEUE, DATA, OVER
    DATA     bytes go both ways                -> CONNECT (reset before any byte), ENDING, OVER
    ENDING   one side was reset; the other still gets what is on its way to it -> OVER
    OVER     both sides are closed, the record is written
"""

HEADER, QUEUE, CONNECT, DATA, ENDING, OVER = range(6)
PHASES = ("header", "queue", "connect", "data", "ending", "over")

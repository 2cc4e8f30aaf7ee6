"""Which backend serves a session, and which backends may.

pool.py         gives out leases, takes them back, keeps those who wait
policies/       how one of several backends is chosen, one file each
backend.py      one backend while it serves: counts, weight of the moment, whether it is usable
health.py       the rules that move a backend between its states, with checks.py (active checks), outlier.py (what
                live traffic says), breaker.py (ejection and its end) and slow_start.py (the curve) beside it
roster.py       who may be chosen now, by tier.py (primaries, backups, panic) and slow start
queue.py        the order in which those who wait are served
sticky.py       which backend a client is bound to, by a sealed value; learnt.py the same by what it did before
load_report.py  what a backend says of itself in one line
budget.py       how many may be retrying
change.py       the news of a state that changed; status.py the whole condition as plain values

Nothing here knows a clock, a socket or the reactor: time enters as a number, chance as a callable.
"""

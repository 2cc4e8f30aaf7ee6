"""What one process has used: CPU time and memory, read from /proc. It knows nothing of who the process is."""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Usage:
    """Seconds that a process ran, and that it was ready to run but waited for a core."""

    ran: float
    waited: float

    def since(self, before: "Usage") -> "Usage":
        """What came after *before*."""
        return Usage(self.ran - before.ran, self.waited - before.waited)


def usage(pid: int) -> Usage:
    """The CPU time, user and system, of all live threads of *pid*.

    ``schedstat`` counts nanoseconds; ``stat`` counts ticks of 10 ms and knows no waiting, and serves where the kernel
    has no schedstat. A running thread's entry lags by up to one tick, so read it when the process has gone quiet.
    """
    ran = waited = 0
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            fields = Path(f"/proc/{pid}/task/{task}/schedstat").read_text().split()
            ran += int(fields[0])
            waited += int(fields[1])
    except FileNotFoundError:
        ran = 0
    if ran:
        return Usage(ran / 1e9, waited / 1e9)
    # The second field is the program's name in brackets and may hold blanks: count fields after the last bracket.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return Usage((int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), 0.0)


def usage_of(pids: Iterable[int]) -> Usage:
    """The CPU time of several processes together."""
    used = [usage(pid) for pid in pids]
    return Usage(sum(one.ran for one in used), sum(one.waited for one in used))


@dataclass(frozen=True)
class Memory:
    """Bytes of memory of one process: *private* is in no other process, *pss* adds a fair share of what is shared."""

    private: int
    pss: int


def parse_smaps_rollup(text: str) -> Memory:
    """Read the text of ``/proc/PID/smaps_rollup``."""
    kilobytes = {name: int(value) for name, value in re.findall(r"^(\w+):\s+(\d+) kB$", text, re.MULTILINE)}
    return Memory(
        private=1024 * (kilobytes["Private_Clean"] + kilobytes["Private_Dirty"]),
        pss=1024 * kilobytes["Pss"],
    )


def memory(pid: int) -> Memory:
    """The memory of *pid* now."""
    return parse_smaps_rollup(Path(f"/proc/{pid}/smaps_rollup").read_text())

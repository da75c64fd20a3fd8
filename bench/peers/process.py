# SPDX-License-Identifier: MIT
"""process.py COMMAND...: prints {"ms", "peak_mb", "status"} of a run. By itself, as a process begins with the peak of
the one that started it, which numpy makes 80 MB; this one has 10."""

import json
import os
import sys
import time

begin = time.perf_counter()
nowhere = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
child = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=nowhere)
_, status, usage = os.wait4(child, 0)
print(json.dumps({"ms": 1e3 * (time.perf_counter() - begin), "peak_mb": usage.ru_maxrss * 1024 / 1e6, "status": status}))

"""Docker's HEALTHCHECK: is the daemon well? One that hangs is killed, since Docker restarts only what has ended.

With an init as process 1 (compose: `init: true`) the container then ends and the restart policy starts it anew, as
systemd's watchdog does where there is no container. Exit code 0: running or degraded; 1: anything else.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

PORT = int(os.environ.get("AERIAL_METRICS_PORT", "9100"))
ANSWER_S = 8.0  # a daemon that takes a connection and says nothing for so long hangs
AGAIN_S = 5.0  # `loop-stalled` comes when the loop stood still for 5 s; once more after as long, and it hangs


def main() -> int:
    """Ask, print how the daemon is, kill one that hangs; return the exit code."""
    try:
        well, health = ask()
        if (since := stalled(health)) is not None:
            time.sleep(AGAIN_S)
            well, health = ask()
            if stalled(health) == since:  # of one stall: no clock is compared, for UTC may be set meanwhile
                return kill(f"its main loop stands still for {5 + AGAIN_S:.0f} s")
    except TimeoutError:
        return kill(f"no answer within {ANSWER_S:.0f} s")
    except (OSError, http.client.HTTPException, ValueError) as error:
        print(f"no health on port {PORT} ({error}); the daemon needs --metrics-port {PORT}")
        return 1
    print(health["state"], *(f"{reason['code']}: {reason['text']}" for reason in health["reasons"]), sep="; ")
    return 0 if well else 1


def ask() -> tuple[bool, dict[str, Any]]:
    """Return whether the daemon is running, and its health. Raises OSError, HTTPException or ValueError."""
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=ANSWER_S)
    connection.request("GET", "/healthz")
    answer = connection.getresponse()
    health = json.loads(answer.read())
    if not isinstance(health, dict) or not {"state", "reasons"} <= health.keys():
        raise ValueError("another program answers there")
    return answer.status == http.HTTPStatus.OK, health


def stalled(health: dict[str, Any]) -> int | None:
    """Return since when the main loop stands still (UTC ns), None while it turns."""
    return next((reason["since_utc_ns"] for reason in health["reasons"] if reason["code"] == "loop-stalled"), None)


def kill(why: str) -> int:
    """Kill the daemons that we see; return the exit code of a check that failed."""
    print(f"the daemon hangs: {why}; it is killed, for the restart policy to start it anew")
    for words in Path("/proc").glob("[1-9]*/cmdline"):
        with suppress(OSError):  # ended meanwhile, or not ours
            if words.parent.name != "1" and b"/aerial-runtime\0" in words.read_bytes():
                os.kill(int(words.parent.name), signal.SIGKILL)
    return 1


if __name__ == "__main__":
    sys.exit(main())

"""For the tests of publishing: when a listener is there."""

from __future__ import annotations

from aerial_runtime.publish import DETECTIONS


def until_heard(publisher, *listeners):
    """Send until every subscription has reached the publisher, then let them forget it."""
    for listener in listeners:
        for _ in range(500):
            publisher.send(DETECTIONS, [b"hello"])
            if listener.poll(10):
                break
    for listener in listeners:
        while listener.poll(50):
            listener.recv_multipart()

"""A cluster that nobody runs: the answers of the first of many nodes, in the shapes of /api/v1."""

from datetime import datetime, timezone

OBSERVERS = 16
SILENT = {"calls": ["web-007", "web-131"], "cut": ("web-012", "web-013"), "left": "web-050"}


def name(n):
    return f"web-{n:03}"


def now():
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def down(n):
    return name(n) in SILENT["calls"]


def observers(n, count):
    """Who observes a node: those before and behind it in a ring."""
    return [(n + step) % count for step in range(-OBSERVERS // 2, OBSERVERS // 2 + 1) if step]


def peer(n, count, turn):
    near = 0 in observers(n, count)
    verdict = "down" if down(n) else "left" if name(n) == SILENT["left"] else "up"
    silent = verdict != "up"
    says = "silent to all 16 that observe it" if verdict == "down" else "left 2 min ago <img src=http://evil.example/x>"
    return {
        "server_id": name(n), "address": f"10.0.{n // 250}.{n % 250}:5278",
        "status": "down" if silent else "healthy", "verdict": verdict, "conditions": [verdict],
        "why": says if silent else f"answers, round trip {0.4 + n % 7 / 10:.1f} ms",
        "since": now(), "since_seconds": 42 + n * 60.0, "observed": near, "proven": not silent,
        "last_seen_seconds": 42.0 if silent else 0.4, "missed_heartbeats": 10 if silent else 0,
        "bytes_received": 1, "bytes_sent": 1,
        "link": {"is_active": not silent, "attempt_count": 1, "rtt_seconds": (4 + (n * 7 + turn * 3) % 5) / 1e4,
                 "loss": {"rx": 0.0, "tx": 0.0}} if near else None,
        "observers": {"healthy": 0 if silent else 16, "suspected": 0, "down": 16 if silent else 0, "unknown": 0},
        "instance": "ab", "version": "0.1.0", "wire_version": 1, "labels": None, "key": "1f", "restarts": 0,
    }


def row(n, count, turn, edges):
    if down(n):
        return {"age_seconds": None, "stale_seconds": 48.0 + turn, "cut": False, "peers": {}}
    seen = {}
    for to in observers(n, count):
        if down(to):
            seen[name(to)] = {"status": "down", "link": "down"}
        elif (name(n), name(to)) == SILENT["cut"]:
            seen[name(to)] = {"status": "healthy", "link": "rx_lost"}
        elif edges:
            seen[name(to)] = {"status": "healthy", "link": "up"}
    return {"age_seconds": (n + turn) % 10 / 10, "stale_seconds": None, "cut": False, "peers": seen}


def status(count):
    lost = len(SILENT["calls"])
    return {
        "generated_at": now(), "server_id": name(0), "cluster": "prod", "version": "0.1.0", "wire_version": 1,
        "instance": "ab", "uptime_seconds": 1e6, "secure": True, "insecure": False, "key": "1f", "keys": ["1f", "c4"],
        "self_health": "ok", "total_peers": count, "healthy_peers": count - lost - 1, "proven_peers": count - lost - 1,
        "suspected_peers": 0, "down_peers": lost + 1, "is_degraded": True, "is_quorum_available": True,
        "quorum_needed": count // 2 + 1, "observers": "auto", "mass_loss": False, "draining_until": None,
        "oldest_row_seconds": 1.8, "strangers": [], "roster_hash": "0", "config_hash": "0",
        "verdicts": {v: {"down": lost, "left": 1, "up": count - lost - 2}.get(v, 0) for v in (
            "isolated left conflict key_mismatch config_mismatch unknown refused down link_down one_way mtu lossy "
            "paused up").split()},
    }


def answer(path, count, turn):
    """What the first of `count` nodes answers for a path; the numbers move with `turn`."""
    if path.endswith("/status"):
        return status(count)
    if path.endswith("/matrix"):
        rows = {name(n): row(n, count, turn, edges=True) for n in range(count)}
        return {"generated_at": now(), "nodes": [name(n) for n in range(count)], "rows": rows}
    if path.endswith("/peers"):
        return {"generated_at": now(), "next": None, "total": count - 1,
                "peers": [peer(n, count, turn) for n in range(1, count)]}
    raise KeyError(path)

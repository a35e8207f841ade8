"""An example of each command of `concord-node`, as its --help and docs/reference/commands.md show it."""

from __future__ import annotations

from typing import Final

EXAMPLES: Final = {
    "concord-node status": "concord-node status --home node-ke",
    "concord-node roll show": "concord-node roll show --home node-ke",
    "concord-node roll take": "concord-node roll take roll.json --home node-ke",
    "concord-node init": "concord-node init --home node-fr --federation atlas --member fr --node fr-1 --out fr-request.json",
    "concord-node join": "concord-node join --home node-fr --ticket fr-ticket.json --credential fr-credential.json "
    "--roll roll.json",
    "concord-node run": "concord-node run --home node-fr",
    "concord-node doctor": "concord-node doctor --home node-fr --before-join --ticket fr-ticket.json",
    "concord-node try": "concord-node try job.yaml --home node-fr",
    "concord-node consents": "concord-node consents --home node-fr",
    "concord-node inbox": "concord-node inbox --home node-fr",
    "concord-node show": "concord-node show digits --home node-fr",
    "concord-node explain": "concord-node explain digits --out verdict.json --home node-fr",
    "concord-node forget": "concord-node forget digits --home node-fr",
    "concord-node grant": "concord-node grant digits --until 2026-12-31 --home node-fr",
    "concord-node deny": 'concord-node deny digits --reason "not before the ethics board meets" --home node-fr',
    "concord-node revoke": 'concord-node revoke digits --reason "a patient withdrew" --as deputy --home node-fr',
    "concord-node budget": "concord-node budget --home node-br",
    "concord-node policy check": "concord-node policy check job.yaml --home node-ke",
    "concord-node policy explain": "concord-node policy explain maxRounds --home node-ke",
    "concord-node policy diff": "concord-node policy diff policy.yaml new-policy.yaml",
    "concord-node policy test": "concord-node policy test --home node-ke",
    "concord-node policy runtime": "concord-node policy runtime",
    "concord-node policy forget": "concord-node policy forget ke-data-protection --home node-ke",
    "concord-node evidence list": "concord-node evidence list --home node-fr",
    "concord-node evidence show": "concord-node evidence show 3f9c21 --home node-fr",
    "concord-node halt": 'concord-node halt --home node-fr --level stop --reason "The ministry called"',
    "concord-node halts": "concord-node halts --home node-fr",
    "concord-node lift": 'concord-node lift 3f9c21 --home node-fr --reason "It was a false alarm"',
    "concord-node witness show": "concord-node witness show --home node-fr",
    "concord-node witness reset": "concord-node witness reset --home node-fr --yes",
    "concord-node version": "concord-node version",
    "concord-node data add": "concord-node data add digits --home node-fr --path /srv/digits --examples 412 --tag scans",
    "concord-node data describe": "concord-node data describe hearts --home node-hu --description hearts.yaml --schema heart.yaml",
    "concord-node data list": "concord-node data list --home node-hu",
    "concord-node data publish": "concord-node data publish hearts --home node-hu",
    "concord-node data withdraw": "concord-node data withdraw hearts --home node-hu",
    "concord-node data check": "concord-node data check job.yaml --home node-hu",
}

GROUPS: Final = {
    "Set up and run": ("init", "join", "run", "status", "doctor", "version", "data", "roll"),
    "Decide on jobs": (
        "policy",
        "try",
        "inbox",
        "show",
        "grant",
        "deny",
        "revoke",
        "consents",
        "explain",
        "forget",
        "budget",
    ),
    "Stop": ("halt", "halts", "lift"),
    "What the node has seen": ("evidence", "witness"),
}
"""under which heading `concord-node --help` lists what"""

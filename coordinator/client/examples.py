"""An example of each command of `concord`, as its --help and docs/reference/commands.md show it."""

from __future__ import annotations

from typing import Final

EXAMPLES: Final = {
    "concord login": "concord login --home lead --ticket ana-ticket.json",
    "concord apply": "concord apply -f job.yaml",
    "concord get": "concord get jobs -o json",
    "concord describe": "concord describe digits",
    "concord watch": "concord watch digits",
    "concord plot": "concord plot digits --out curves",
    "concord logs": "concord logs digits --follow",
    "concord cancel": 'concord cancel digits --reason "The data set was the wrong one"',
    "concord halt": 'concord halt digits --level stop --reason "It shows more than we agreed to" --home lead',
    "concord lift": 'concord lift 3f9c21 --reason "The visit is over" --home officer-fr --via lead',
    "concord drill": "concord drill digits --home lead",
    "concord explain": "concord explain job.spec.strategy",
    "concord code digest": "concord code digest -f job.yaml",
    "concord code sign": "concord code sign -f job.yaml --home officer-ke",
    "concord verify": "concord verify release --roll roll.json",
    "concord doctor": "concord doctor --home lead",
    "concord version": "concord version",
    "concord member init": 'concord member init --home officer-fr --id fr --name "Laboratory of France" --jurisdiction FR '
    "--out fr.json",
    "concord member sign-node": "concord member sign-node --home officer-fr --request fr-request.json "
    "--out fr-credential.json",
    "concord lead init": 'concord lead init --home lead --id ana --member fr --name "Ana" --out ana.json',
    "concord roll draft": "concord roll draft --federation atlas --member fr.json --member ke.json --member in.json "
    "--lead ana.json --out roll.json",
    "concord roll sign": "concord roll sign --home officer-fr --roll roll.json",
    "concord charter show": "concord charter show --roll roll.json",
    "concord charter check": "concord charter check charter.yaml",
    "concord roll show": "concord roll show --roll roll.json",
    "concord roll history": "concord roll history --home officer-br",
    "concord roll fetch": "concord roll fetch --home officer-br",
    "concord roll take": "concord roll take roll.json --home lead",
    "concord roll amend": "concord roll amend --home officer-br --admit se.json --tier se=candidate --out roll-2.json",
    "concord roll put": "concord roll put --home officer-br roll-2.json",
    "concord member rotate": "concord member rotate --home officer-br --out roll-3.json",
    "concord propose": "concord propose suspension --home officer-br --suspend ke",
    "concord vote": "concord vote --home officer-ke 3f9a2c yes",
    "concord proposals": "concord proposals --home officer-ke",
    "concord sign": "concord sign --home vault vote.json",
    "concord send": "concord send --home officer-ke vote.json",
    "concord lock-key": "concord lock-key --home officer-ke",
    "concord roll verify": "concord roll verify roll.json",
    "concord release list": "concord release list -o json",
    "concord release show": "concord release show digits",
    "concord release approve": "concord release approve digits --home officer-fr",
    "concord release recall": 'concord release recall digits --home officer-fr --why "wrong for children" --out recall.json',
    "concord release serve": "concord release serve releases --listen 127.0.0.1:8080 --recalls recalls",
    "concord release fetch": "concord release fetch digits --out release",
    "concord release open": "concord release open release --out model",
    "concord release key": "concord release key --home lead --out ana.key",
    "concord audit verify": "concord audit verify --since head --home lead",
    "concord audit fetch": "concord audit fetch log --url https://concord.example.org/log",
    "concord audit prove": "concord audit prove --entry 12 --out consent.tlog-proof --home lead",
    "concord audit check": "concord audit check consent.tlog-proof --key log.key",
    "concord audit fork": "concord audit fork 20260131T120000Z-3f9c21aa0b1c.fork --key log.key",
    "concord audit report": "concord audit report --html log.html --home lead",
}

GROUPS: Final = {
    "Jobs": ("apply", "get", "describe", "watch", "plot", "logs", "cancel", "explain", "code", "lead"),
    "Releases and the public log": ("verify", "release", "audit"),
    "Halts": ("halt", "lift", "drill"),
    "Members and their votes": (
        "propose",
        "vote",
        "proposals",
        "sign",
        "send",
        "lock-key",
        "member",
        "roll",
        "charter",
    ),
    "This machine": ("login", "doctor", "version"),
}
"""under which heading `concord --help` lists what"""

"""An example of each command of `concord-coordinator`, as its --help and docs/reference/commands.md show it."""

from __future__ import annotations

from typing import Final

EXAMPLES: Final = {
    "concord-coordinator init": "concord-coordinator init --home coordinator --federation atlas --listen 0.0.0.0:7443",
    "concord-coordinator found": "concord-coordinator found --home coordinator --roll roll.json",
    "concord-coordinator ticket": "concord-coordinator ticket --home coordinator --member fr --node fr-1 --out fr-ticket.json "
    "--address concord.example.org:7443",
    "concord-coordinator evidence": "concord-coordinator evidence --home coordinator --out evidence",
    "concord-coordinator run": "concord-coordinator run --home coordinator",
    "concord-coordinator database move": "concord-coordinator database move --home coordinator "
    "--to postgresql://concord@localhost/concord --password-file db-password",
    "concord-coordinator doctor": "concord-coordinator doctor --home coordinator --json",
    "concord-coordinator version": "concord-coordinator version",
}

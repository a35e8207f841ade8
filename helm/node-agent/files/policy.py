"""Reads policy.yaml of a folder, and the packs beside it, as the agent will; what it could not follow is refused before it starts.

Arguments: the folder, and "accepted" where a job's code may run without a sandbox.
"""

import sys
from pathlib import Path

from federation.errors import FederationError, InvalidManifest
from federation.policy.rules import load_policy
from node_agent.consent.packs import read_pack

folder, unsandboxed = Path(sys.argv[1]), sys.argv[2] == "accepted"
try:
    policy = load_policy((folder / "policy.yaml").read_text(), "policy.yaml")
    packs = {}
    for path in sorted(folder.glob("*.yaml")):
        if path.name in {"policy.yaml", "node.yaml"} or path.name.endswith(".cases.yaml"):
            continue
        pack, _ = read_pack(path)
        if pack.name in packs:
            raise InvalidManifest(
                f"{path.name} and {packs[pack.name]} are both the pack {pack.name}.",
                hint="Give each pack its own name.",
            )
        packs[pack.name] = path.name
    if not policy.sandbox_required and not unsandboxed:
        raise InvalidManifest(
            "policy.yaml: sandbox: optional lets a job's code run beside this node's keys and with its network.",
            hint="Say required, or set sandbox.acceptUnsandboxed.",
        )
except FileNotFoundError:
    sys.exit(f"error: There is no policy.yaml in {folder}.\n  what to do: Put one in: see docs/reference/policy.md.")
except UnicodeDecodeError:
    sys.exit(f"error: A file of {folder} is not UTF-8 text.\n  what to do: Save it as UTF-8.")
except FederationError as error:
    sys.exit(f"error: {error.message}\n  what to do: {error.hint}")

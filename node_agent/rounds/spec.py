"""What a job's worker may see and use, from the manifest, the consent and the node's own settings."""

from __future__ import annotations

from pathlib import Path

from federation.errors import NotFound
from federation.identity.roll import Roll
from federation.manifest.manifest import Manifest
from node_agent.rounds.files import JobFiles
from node_agent.runner.worker import WorkerSpec
from node_agent.settings import NodeSettings


def data_paths(manifest: Manifest, data_set: str, settings: NodeSettings) -> dict[str, Path]:
    """The data sets that the job uses here, the one that the lab agreed to first; what fits only since then is none of them.

    Raises NotFound when this node has one of them no longer.
    """
    names = (data_set, *manifest.spec.extra_data_sets)
    for name in names:
        if name not in settings.data_sets:
            raise NotFound(
                f"The job uses the data set {name}, which this node has no longer.",
                hint="Add it again under that name (concord-node data add), or leave the job.",
            )
    return {name: Path(settings.data_sets[name].path) for name in names}


def worker_spec(
    manifest: Manifest, data_set: str, settings: NodeSettings, files: JobFiles, roll: Roll, sandbox: str
) -> WorkerSpec:
    """What the job's worker sees: its data sets, its limits; the member's index on the roll as partition-id. Its
    accelerators are lent when it starts.
    """
    members = [member.id for member in roll.members]
    return WorkerSpec(
        bundle=files.bundle,
        data_sets=data_paths(manifest, data_set, settings),
        scratch=files.scratch,
        log=files.task_log,
        client_app=manifest.client_app,
        run_config=manifest.run_config,
        partition_id=members.index(settings.member),
        num_partitions=len(members),
        weight_key=manifest.spec.weight_key,
        sandbox=sandbox,
        memory_bytes=manifest.memory_bytes,
        cpus=manifest.spec.resources.cpus,
    )

"""What a consent binds of a job, and which of it holds no more: computed alike by whoever gives a consent and whoever checks it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from federation.identity.consent import Binding, Consent, Outputs, Reserved
from federation.manifest.manifest import Manifest
from federation.privacy.accounting import Charge


def outputs_of(manifest: Manifest) -> Outputs:
    """Audience is a word of the release; jobs of before have none."""
    return Outputs(
        view=manifest.spec.coordinator_view,
        audience=str(getattr(manifest.spec.release, "audience", None) or ""),
        recipients=tuple(hashlib.sha256(key).digest() for key in manifest.recipients),
    )


def budget_of(plans: Mapping[str, Mapping[Charge, int]]) -> tuple[Reserved, ...]:
    """``plans``: what the job as a whole charges each data set."""
    return tuple(
        Reserved(name, charge.text(), times)
        for name, planned in sorted(plans.items())
        for charge, times in sorted(planned.items(), key=lambda item: item[0].text())
    )


def binding_of(
    manifest: Manifest,
    *,
    data: tuple[tuple[str, bytes], ...],
    verdict: bytes,
    roll: bytes,
    plans: Mapping[str, Mapping[Charge, int]],
    study: bytes = b"",
) -> Binding:
    return Binding(data, verdict, roll, budget_of(plans), outputs_of(manifest), study)


def strayed(consent: Consent, manifest: Manifest, plans: Mapping[str, Mapping[Charge, int]]) -> tuple[str, ...]:
    """What the job does beyond its consent, one sentence each; empty when it lies within."""
    problems: tuple[str, ...] = ()
    if consent.job != manifest.digest:
        problems += ("the consent is for another manifest",)
    if undeclared := sorted(set(manifest.exact_figures) - set(consent.figures)):
        problems += (f"the consent does not declare {', '.join(undeclared)} public",)
    if consent.binds is not None:
        if consent.binds.outputs != outputs_of(manifest):
            problems += ("the consent is for other outputs",)
        if consent.binds.budget != budget_of(plans):
            problems += ("the consent reserves another privacy budget",)
    return problems

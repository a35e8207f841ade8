"""docs/reference/policy.md, generated from the schema and the vocabulary; a test compares."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from federation.manifest.explain import Field, fields
from federation.policy.schema import VOCABULARY, PackDocument, PolicyDocument
from federation.policy.vocabulary import BY_NAME

HEAD: Final = f"""# A node's policy

Generated from `federation/policy/schema.py` and `federation/policy/vocabulary.py`; a test compares. `concord-node policy explain`
prints the same. For people who read no YAML: [a policy, sentence by sentence](../policy-for-lawyers.md). How to write one, try it
and change it: [policies](../how-to/policy.md).

`policy.yaml` in the node's folder says which jobs this lab takes part in; nobody else can widen or replace it. Every rule must say
yes: `leads`, `jurisdictions`, `dataSets` and `minimumCohort` deny everything while they are absent; every further rule, or narrower
list, only takes away. Where a rule says no, the lead reads its sentence in `concord describe`.

```yaml
apiVersion: concord/v1
kind: NodePolicy
vocabulary: {VOCABULARY}
rules:
  leads: [cardiology]
  jurisdictions: [CH, HU, US]
  dataSets: [heart-disease]
  minimumCohort: 3
  figures: [train/loss, accuracy]
```

A job is granted, denied, or a person is asked (`askAbove`, `askAlways`); where nobody answers, it is denied.

## The words

This node knows vocabulary {VOCABULARY}. A file in a newer one, or with a word that is not here, is not guessed at: until the
node is updated it agrees to nothing under that file, and says so. A word without a value is refused.

**checked**: the node compares with what it holds itself, or with what binds the job. **declared**: it compares with what the lead
states and signs, and cannot see whether that is true; a job that does not state it does not pass. **people**: the lab's people keep
it.
"""

PACKS: Final = """
## Packs

A pack is a further file of rules. It only takes away: what the lab's own file does not allow no pack allows, and what a pack does
not speak of it leaves as it is. The strictest wins; order does not matter.

- The **base pack** is adopted by a vote of the members, and comes with the membership roll.
- **National** packs and further packs of the lab lie in `policy.d/` of the node's folder, one file each, named `*.yaml`.

```yaml
apiVersion: concord/v1
kind: PolicyPack
metadata: {name: ke-data-protection, layer: national, serial: 3}
rules:
  neverTags: [children]
  coordinatorView: [blind]
sandbox: required
```

The node remembers, on its disk, which packs it has seen. A pack of a lower serial, other rules under the same serial, and a pack
that is gone are refused: every job is denied, and what was offered is kept (`concord-node evidence list`). Raise the serial with
each change; `concord-node policy forget NAME` takes a pack out of the memory, and is the lab's own decision.
"""

TAIL: Final = """
## How rules compare

`minimumCohort` and `minimumJurisdictions` are compared with what the job promises (`participants.minMembers` and
`participants.minJurisdictions`), and `jurisdictions` with every member that the job may bring in.

`figures` are what this lab declares public in its consent: metrics that may leave as exact sums over a cohort. Name
means here, such as a loss or an accuracy, and no counts: a sum of `rows` over a cohort, and over the same cohort without
one member, differ by that member's count. The node lets figures of one model out over one cohort only, in all jobs
([protocol](../protocol/secure-aggregation.md), "Figures"); `concord-node try` warns of figures that are whole numbers.
"""


def reference_page() -> str:
    documents = fields(PolicyDocument, "policy")
    packs = [item for item in fields(PackDocument, "pack") if item.path.startswith("pack.metadata")]
    return "\n".join(
        [HEAD, *_table(documents), PACKS, *_table(packs), TAIL.rstrip("\n"), ""],
    )


KEPT: Final = {
    "checked": "checked: the node compares with what it holds itself, or with what binds the job",
    "declared": "declared: the node compares with what the lead states and signs, and cannot see whether that is true",
    "people": "people: the lab's people keep it",
}


def kept_sentence(kept: str) -> str:
    """Who keeps a word, for people."""
    return KEPT[kept]


def meaning_of(word: str) -> str:
    """Its description in the schema."""
    paths = (f"policy.rules.{word}", f"policy.{word}")
    return next(item.meaning for item in fields(PolicyDocument, "policy") if item.path in paths)


def _table(listed: list[Field] | tuple[Field, ...]) -> Iterator[str]:
    yield "| word | type | default | meaning | compared with | kept |"
    yield "|---|---|---|---|---|---|"
    for item in listed:
        word = BY_NAME.get(item.path.removeprefix("policy.").removeprefix("rules."))
        default = f"`{item.default}`" if item.default else ("" if item.parent else "required")
        meaning = item.meaning.replace("|", "\\|")
        against, kept = (word.against, word.kept) if word is not None else ("", "")
        yield f"| `{item.path}` | {item.kind} | {default} | {meaning} | {against} | {kept} |"

"""A node's policy, and its verdict on a job: the lab's own file grants, packs from elsewhere take away, the strictest wins.

Deny by default: where the lab's own file does not say which leads, jurisdictions, data sets and cohorts, it denies; no pack can say
it in its place. Everything else is a limit: a further rule, a further pack or a narrower list never turns a denial into a grant. A
pack that cannot be read, or is older than the one that this node has seen, denies every job until somebody sees to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from federation.manifest.schema import bytes_of
from federation.manifest.yaml_source import read_yaml
from federation.policy.pack import MAX_PACKS, Pack, Unread, checked, load_pack, own_name, pack_of, validated
from federation.policy.question import Question
from federation.policy.schema import VOCABULARY, NodeRules, PolicyDocument
from federation.policy.verdict import Finding, Verdict
from federation.policy.vocabulary import WORDS, Word
from federation.secagg.parameters import TRAINING_JOB


@dataclass(frozen=True, slots=True)
class Policy:
    source: str
    own: Pack
    rules: NodeRules
    """of the lab's own file"""
    packs: tuple[Pack, ...] = ()
    unread: tuple[Unread, ...] = ()

    @property
    def hours(self) -> str:
        """Local, of the lab's own file: what the node offers."""
        return str(self.own.values["hours"])

    @property
    def sandbox_required(self) -> bool:
        return any(pack.values.get("sandbox") == "required" for pack in (self.own, *self.packs))

    @property
    def memory_limit(self) -> int | None:
        """Bytes; None: no limit."""
        limits = [
            bytes_of(pack.values["memoryLimit"]) for pack in (self.own, *self.packs) if "memoryLimit" in pack.values
        ]
        return min(limits) if limits else None

    @property
    def minimum_cohort(self) -> int | None:
        """What each roster must have: the largest that any file asks for."""
        stated = [pack.values["minimumCohort"] for pack in (self.own, *self.packs) if "minimumCohort" in pack.values]
        return max(stated, default=None)

    def under(self, packs: Sequence[Pack], unread: Sequence[Unread] = ()) -> Policy:
        """The same policy with further packs; their order does not matter."""
        every = (*self.packs, *packs)
        twice = sorted({pack.name for pack in every if sum(pack.name == other.name for other in every) > 1})
        trouble = [Unread(name, "lab", f"two packs of this node have the name {name}") for name in twice]
        if len(every) > MAX_PACKS:
            trouble.append(Unread("policy.d", "lab", f"this node has more than {MAX_PACKS} packs"))
        known = {(pack.layer, pack.name, pack.digest): pack for pack in every}
        return replace(
            self,
            packs=tuple(known[key] for key in sorted(known)),
            unread=tuple(sorted({*self.unread, *unread, *trouble}, key=lambda each: (each.source, each.sentence))),
        )


def load_policy(text: str, source: str) -> Policy:
    """The lab's own file. Raises InvalidManifest with file, line, field, and what to do."""
    read = checked(text, source, PolicyDocument)
    document = validated(read, PolicyDocument)
    return Policy(source, pack_of(read, document, own_name(source), "own", 0), document.rules)


def load_rules(text: str, source: str) -> Pack:
    """A file of either kind, for whoever compares or explains it. Raises InvalidManifest."""
    read = read_yaml(text, source)
    if isinstance(read.value, dict) and read.value.get("kind") == "PolicyPack":
        return load_pack(text, source)
    return load_policy(text, source).own


def evaluate(policy: Policy, question: Question) -> Verdict:
    """Pure: the same policy and question give the same verdict, byte for byte, everywhere."""
    findings = [
        *_asked(question),
        *(Finding("denies", each.source, each.layer, "pack", 0, each.sentence) for each in policy.unread),
        *_of(policy.own, question),
        *(finding for pack in policy.packs for finding in _of(pack, question)),
    ]
    deputies = _deputies((policy.own, *policy.packs))
    if deputies == () and any(finding.effect == "asks" for finding in findings):
        findings.append(
            Finding(
                "denies", "", "node", "rules.deputies", 0, "a person must decide, and the rules name nobody who may"
            )
        )
    return Verdict(
        findings=tuple(findings),
        packs=tuple(pack.reference for pack in (policy.own, *policy.packs)),
        vocabulary=VOCABULARY,
        job=question.manifest.digest,
        roll=question.roll.digest,
        member=question.member,
        moment=f"{question.date} {question.now}".strip(),
        deputies=deputies,
    )


def _of(pack: Pack, question: Question) -> Iterator[Finding]:
    for word in WORDS:
        value = pack.values.get(word.name)
        if value is None:
            if pack.layer == "own" and word.needed is not None and word.needed(pack.values, question):
                yield _absent(word, pack, question)
            continue
        line, objected = pack.lines[word.name], False
        for objection in word.check(value, question):
            objected = True
            effect: Literal["asks", "denies"] = "asks" if objection.ask else "denies"
            rule = word.rule + objection.part
            yield Finding(effect, pack.name, pack.layer, rule, line, objection.sentence, objection.detail)
        if not objected and pack.layer == "own" and word.name in GRANTED:
            yield Finding("allows", pack.name, pack.layer, word.rule, line, GRANTED[word.name](question))


GRANTED = {
    "leads": lambda question: f"lead {question.manifest.lead.id} is allowed",
    "dataSets": lambda question: f"data set {', '.join(question.data_sets)} is allowed",
    "minimumCohort": lambda question: f"at least {question.manifest.spec.participants.min_members} members take part",
}
"""what is said of a job that is allowed"""


def _absent(word: Word, pack: Pack, question: Question) -> Finding:
    if word.name == "jobKinds":
        kind = question.manifest.job.kind
        sentence = f"these rules know of {TRAINING_JOB}s alone, and the job is a {kind}"
        return Finding("denies", pack.name, pack.layer, "kind", 0, sentence)
    sentence = "the policy names none, and what it does not allow it denies"
    return Finding("denies", pack.name, pack.layer, word.rule, 0, sentence)


def _asked(question: Question) -> Iterator[Finding]:
    people, own = question.manifest.spec.participants, question.roll.member(question.member)
    if people.members and own.id not in people.members:
        yield Finding("denies", "", "node", "participants.members", 0, f"the job does not ask {own.id}")
    if people.jurisdictions and own.jurisdiction not in people.jurisdictions:
        sentence = f"the job does not ask members from {own.jurisdiction}"
        yield Finding("denies", "", "node", "participants.jurisdictions", 0, sentence)


def _deputies(packs: Iterable[Pack]) -> tuple[str, ...] | None:
    """Those whom every file that names any names."""
    named = [set(pack.values["deputies"]) for pack in packs if "deputies" in pack.values]
    return tuple(sorted(set.intersection(*named))) if named else None

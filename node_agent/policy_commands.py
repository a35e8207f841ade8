"""`concord-node policy`: what this lab's rules say to a job, what each means, what a change changes, whether the examples hold.

Nothing is sent and nothing is remembered; the base pack is the one of the roll in the home.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from federation.errors import FederationError, InvalidManifest, InvalidUsage, NotFound, plain
from federation.identity.roll import Roll
from federation.manifest.app_folder import read_app_folder
from federation.policy.cases import Case, CasesDocument, load_cases
from federation.policy.comparison import compare, direction_of
from federation.policy.pack import Pack
from federation.policy.page import kept_sentence, meaning_of
from federation.policy.question import DataFacts, Question
from federation.policy.rules import Policy, evaluate, load_policy, load_rules
from federation.policy.verdict import FORMAT, Verdict
from federation.policy.vocabulary import BY_NAME, WORDS
from node_agent.catalogue.versions import sealed_versions
from node_agent.consent.decision import Situation, chosen_data, question_of
from node_agent.consent.packs import held_policy, read_policy
from node_agent.consent.pretended import NO_APP, as_if_submitted, likely_lead, read_job
from node_agent.runner.runtime import missing_runtime
from node_agent.runner.sandbox import detect_sandbox
from node_agent.settings import Home

FILE_LIMIT: Final = 1 << 20
ROLL_LIMIT: Final = 4 << 20
CASES_FILE: Final = "policy.cases.yaml"
TOLD: Final = {
    "granted": "granted: this lab's rules allow it",
    "asks": "a person must decide",
    "denied": "denied",
}


def check(home: Home, job: Path, lead: str | None, at: str | None, output: str, out: Path | None) -> bool:
    """Prints the verdict on a job document; whether it was granted. Raises NotFound, InvalidManifest, InvalidUsage."""
    settings = home.settings()
    roll = Roll.open(home.read(home.roll, ROLL_LIMIT))
    policy = held_policy(home, home.policy_file.name, roll, keep=None)
    document, folder = read_job(job)
    lead = lead or likely_lead(roll, policy.rules.leads)
    app = folder / (document.spec.app or "")
    files = read_app_folder(app) if app.is_dir() else NO_APP
    manifest, roll = as_if_submitted(
        document, files, roll, lead, bytes(32) if document.spec.model.snapshot_file else None
    )
    situation = Situation(
        policy=policy,
        roll=roll,
        member=settings.member,
        node=settings.node,
        data_sets=settings.data_sets,
        sandbox=detect_sandbox().kind,
        missing=missing_runtime,
        now=_moment(at),
        version_of=sealed_versions(home).version_of,
    )
    verdict = evaluate(policy, question_of(manifest, chosen_data(manifest, settings.data_sets), situation))
    if out is not None:
        out.write_bytes(verdict.to_bytes())
    if output == "json":
        print(json.dumps(verdict.document(), indent=2, ensure_ascii=False))
        return verdict.granted
    print(f"job       {manifest.name}, as if {lead} had submitted it")
    if files is NO_APP:
        print(f"code      {plain(app)} is not here: rules about the code see none")
    for line in _verdict_lines(verdict):
        print(line)
    return verdict.granted


def explain(home: Home | None, topic: str | None) -> None:
    """Prints what each rule of this node means; or one word; or a verdict that ``check --out`` wrote. Raises NotFound."""
    if topic is not None and Path(topic).is_file():
        _explain_verdict(Path(topic))
        return
    packs = [] if home is None else _packs(home)
    if topic is None:
        if home is None:
            raise InvalidUsage("Say which node's rules, or which word.", hint="Give --home, or a word such as leads.")
        for number, pack in enumerate(packs):
            if number:
                print()
            for line in explained(pack):
                print(line)
        return
    name = topic.removeprefix("policy.").removeprefix("rules.").split(".")[0]
    word = BY_NAME.get(name)
    if word is None:
        raise NotFound(
            f"There is no word {plain(topic)[:80]}.", hint=f"The words are: {', '.join(each.name for each in WORDS)}."
        )
    print(f"{word.rule}\n    {meaning_of(name)}\n    compared with: {word.against}\n    {kept_sentence(word.kept)}")
    for pack in packs:
        if name in pack.values:
            print(f"{_title(pack)}, line {pack.lines[name]}\n    {word.meaning(pack.values[name])}")


def explained(pack: Pack) -> Iterator[str]:
    """A file of rules, sentence by sentence, in the order of its lines. What it leaves to its defaults comes last."""
    yield _title(pack)
    stated = sorted(pack.values, key=lambda name: (name not in pack.said, pack.lines[name], name))
    for name in stated:
        line = f"line {pack.lines[name]}" if name in pack.said else "default"
        yield f"    {line:<9} {BY_NAME[name].meaning(pack.values[name])}"


def difference(old: Path, new: Path) -> None:
    """Prints, word by word, what is narrower and what is wider. Raises NotFound or InvalidManifest."""
    changes = compare(load_rules(_text(old), str(old)), load_rules(_text(new), str(new)))
    whole = {
        "same": "The two let the same jobs pass.",
        "narrower": "The new one is narrower: it lets nothing pass that the old one did not.",
        "wider": "The new one is wider: it lets pass all that the old one did, and more.",
        "both": "The new one is narrower in some ways, and wider in others.",
    }[direction_of(changes)]
    print(whole)
    for change in changes:
        title = {"both": "narrower and wider"}.get(change.direction, change.direction)
        print(f"\n{change.rule}: {title}\n    was  {change.was}\n    now  {change.now}")


def run_cases(home: Home | None, policy_file: Path | None, cases_file: Path | None) -> bool:
    """Prints each example case and whether the policy says to it what it should; whether all hold.

    Raises InvalidUsage, NotFound, InvalidManifest.
    """
    if (home is None) == (policy_file is None):
        raise InvalidUsage("Say whose policy: a node's, or a file.", hint="Give --home, or --policy policy.yaml.")
    if policy_file is not None:
        policy = load_policy(_text(policy_file), str(policy_file))
        beside = policy_file.with_name(f"{policy_file.stem}.cases.yaml")
    else:
        assert home is not None
        policy, beside = _held(home), home.root / CASES_FILE
    source = cases_file or beside
    document = load_cases(_text(source), str(source))
    failed = 0
    for case in document.cases:
        problem, verdict = judged(policy, document, case)
        print(f"{'FAILED' if problem else 'ok    '}  {case.name}: {verdict.outcome if verdict else 'no job'}")
        if problem:
            failed += 1
            print(f"        {problem}")
            for reason in verdict.reasons if verdict else ():
                print(f"        {reason}")
    print(f"{len(document.cases) - failed} of {len(document.cases)} cases hold")
    return not failed


def judged(policy: Policy, document: CasesDocument, case: Case) -> tuple[str, Verdict | None]:
    """What is wrong, empty if nothing is; and the verdict, unless the case is no job."""
    roll = document.roll()
    try:
        manifest, roll = as_if_submitted(document.job(case), NO_APP, roll, case.lead or roll.leads[0].id)
    except FederationError as error:
        return f"{error.message} {error.hint}", None
    wanted = manifest.spec.data_set
    named = [wanted.name] if wanted.name else sorted(document.data_sets)
    fitting = [
        name for name in named if name in document.data_sets and set(wanted.tags) <= set(document.data_sets[name])
    ]
    extra = list(manifest.spec.extra_data_sets)
    there = fitting and all(name in document.data_sets for name in extra)
    names = (fitting[0], *extra) if there else ()
    day, now = case.at.split(" ")
    question = Question(
        manifest=manifest,
        roll=roll,
        member=document.federation.here,
        data_sets=names,
        now=now,
        sandbox=case.sandbox,
        date=day,
        facts=tuple(DataFacts(name, tuple(document.data_sets[name])) for name in names),
        runtime=manifest.spec.runtime.digest or "",
    )
    verdict = evaluate(policy, question)
    if verdict.outcome != case.expect:
        return f"expected {case.expect}", verdict
    rules = sorted({finding.rule for finding in verdict.deciding})
    if case.because is not None and rules != sorted(case.because):
        return (
            f"expected because of {', '.join(sorted(case.because))}, and it is because of {', '.join(rules)}",
            verdict,
        )
    return "", verdict


def _verdict_lines(verdict: Verdict) -> Iterator[str]:
    yield f"verdict   {TOLD[verdict.outcome]}"
    for finding in verdict.deciding:
        rule = "" if finding.effect == "allows" else f"{finding.rule}: "
        detail = f" [{finding.detail}]" if finding.detail else ""
        yield f"  {plain(finding.place):<28} {plain(rule + finding.sentence + detail)}"
    if verdict.needs_person:
        people = "whoever has the node" if verdict.deputies is None else ", ".join(verdict.deputies)
        yield f"decides   {plain(people)}"
    yield f"digest    {verdict.digest.hex()}"


def _explain_verdict(path: Path) -> None:
    try:
        lines = verdict_lines(_text(path).encode())
    except (ValueError, KeyError, TypeError, RecursionError):
        raise InvalidManifest(
            f"{path.name} is no verdict.", hint="concord-node policy check job.yaml --out verdict.json writes one."
        ) from None
    print("\n".join(lines))


def verdict_lines(data: bytes) -> list[str]:
    """A verdict's document for people: under which files, and what each rule said. Raises ValueError, KeyError, TypeError or
    RecursionError when it is none."""
    document: dict[str, Any] = json.loads(data)
    if document["format"] != FORMAT:
        raise ValueError
    lines = [f"{plain(document['outcome'])}: the job {plain(document['job'])[:64]}, {plain(document['moment'])}"]
    for pack in document["packs"]:
        serial = f", serial {plain(pack['serial'])}" if pack["serial"] else ""
        lines.append(f"under     {plain(pack['name'])} ({plain(pack['layer'])}{serial}, {plain(pack['digest'])[:12]})")
    for finding in document["findings"]:
        word = BY_NAME.get(str(finding["rule"]).removeprefix("rules.").split(".")[0])
        lines.append(f"{finding['effect']:<9} {plain(finding['pack'] or 'this node')}: {plain(finding['sentence'])}")
        if word is not None:
            lines.append(f"          {word.rule}: {meaning_of(word.name)}; compared with {word.against}")
    return lines


def _packs(home: Home) -> list[Pack]:
    policy = _held(home)
    for each in policy.unread:
        print(f"{plain(each.source)}: NOT FOLLOWED, and until it is every job is denied: {plain(each.sentence)}")
    return [policy.own, *policy.packs]


def _held(home: Home) -> Policy:
    """Without a base pack where the node has not joined."""
    if not home.roll.exists():
        return read_policy(home, home.policy_file.name)
    return held_policy(home, home.policy_file.name, Roll.open(home.read(home.roll, ROLL_LIMIT)), keep=None)


def _title(pack: Pack) -> str:
    if pack.layer == "own":
        return f"{pack.name} (the lab's own rules)"
    title = f": {pack.title}" if pack.title else ""
    return plain(f"{pack.name} ({pack.layer} pack, serial {pack.serial}){title}")


def _moment(at: str | None) -> datetime:
    if at is None:
        return datetime.now().astimezone()
    try:
        return datetime.strptime(at, "%Y-%m-%d %H:%M").astimezone()
    except ValueError:
        raise InvalidUsage(f"--at {plain(at)[:40]} is no local time.", hint="Write it as 2027-01-31 23:00.") from None


def _text(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            data = stream.read(FILE_LIMIT + 1)
    except OSError as error:
        raise NotFound(f"{path} cannot be read: {error.strerror}.", hint="Name a file that is there.") from None
    if len(data) > FILE_LIMIT:
        raise InvalidManifest(f"{path} is larger than {FILE_LIMIT >> 20} MiB.")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise InvalidManifest(f"{path} is not UTF-8 text.", hint="Save it as UTF-8.") from None

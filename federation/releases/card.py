"""The model's card, README.md: what the verified files say, in plain words.

Whoever verifies makes it again, from what the members signed, and it must come out the same byte for byte.
"""

from __future__ import annotations

from typing import Final

from federation.privacy.statement import explanation_of, sentence_of
from federation.releases.config import moment_of
from federation.releases.described import words_of
from federation.releases.facts import LIMITS, Facts
from federation.releases.listing import LOG, MODEL, SEALED
from federation.secagg.messages import Seat
from federation.secagg.parameters import Quorums

_MARKUP: Final = "\\`*_{}[]()<>#+-.!|&~"


def card_of(facts: Facts) -> bytes:
    """README.md, in plain words."""
    manifest, terms, quorums = facts.manifest, facts.manifest.terms(), Quorums.of(len(facts.seats))
    sets = sorted(set(facts.data_sets.values()))
    lines = [
        f"# {_plain(manifest.name)}",
        "",
        f"A model that {len(facts.seats)} members of the federation {_plain(manifest.federation)} trained together, in "
        f"{terms.rounds} round{'s' * (terms.rounds != 1)} of {_plain(manifest.strategy.name)}, with the data at home.",
        "",
        *[f"> {_plain(line)}" for line in manifest.job.metadata.description.splitlines() if line.strip()],
        "",
        f"- Job: `{manifest.digest.hex()}`, signed by {_plain(manifest.lead.name)} "
        f"({_plain(manifest.lead.id)} of {_plain(manifest.lead.member)})",
        f"- Data set{'s' * (len(sets) != 1)}: {', '.join(map(_plain, sets))} (the name at each member; nobody saw the rows)",
        f"- Model: {_what(facts)}; its state's digest is `{facts.state_digest.hex()}`",
        f"- Membership roll: version {facts.roll.version}, `{facts.roll.digest.hex()}`",
        f"- Release: `{facts.subject.hex()}`, {_approval(facts)}",
        f"- Licence: {_plain(manifest.spec.release.licence or 'none was stated')}",
        "",
        "## What it is for",
        "",
        *_purposes(facts),
        "",
        "## Who took part",
        "",
        "| member | name | jurisdiction | data set | weight | consent |",
        "|---|---|---|---|---|---|",
        *[_member_row(facts, seat) for seat in facts.seats],
        "",
        "The weight is a public power of two at or below the member's count of examples (1 for all when members count equally).",
        "A consent that was taken back, or has ended, counted until then; what the log says after its head below is not here.",
        "",
        "## Data",
        "",
        *_data(facts),
        "",
        "## Rounds",
        "",
        *_round_table(facts),
        "",
        "The cohorts and the figures are certified by the members' signatures. The figures are weighted means over the "
        "cohort.",
        *(
            [f"Round {terms.last_round} only evaluates the final model."]
            if terms.final_evaluation
            else ["The model was not evaluated after the last round."]
        ),
        "",
        "## Gates",
        "",
        *_gates(facts),
        "",
        *_groups(facts),
        "## Memorisation",
        "",
        *_memorisation(facts),
        "",
        "## What the members' number gives",
        "",
        f"{_colluding(quorums)} {quorums.q} of the {quorums.n} members' signatures certify each cohort and each model. "
        f"No sum of fewer than {quorums.m} members was certified, so each holds the updates of at least "
        f"{quorums.m - quorums.f} honest ones. {quorums.t} members together can stand in for one that vanished before the "
        f"sum was opened.",
        "",
        *_privacy(facts),
        "",
        "## In the public log",
        "",
        f"`{LOG}` holds every entry of the log `{_plain(facts.log.key.name)}` from the job's submission (number "
        f"{facts.log.first}) to its head of {facts.log.size} entries, dated {moment_of(facts.log.time)}, which "
        f"{_plain(', '.join(facts.log.witnesses))} cosigned. It was made before this release was published, so that the entry "
        "about that, and whatever came later, is not in it.",
        "",
        "## Limits",
        "",
        *[f"- {line}" for line in LIMITS],
        "",
        "## Verify",
        "",
        "    concord verify . --roll roll.json",
        "",
        "with a membership roll that you have from somebody you trust, not from this folder. It works offline, and checks every "
        "byte: the roll, the job, each member's consent, each round's certificate and receipts, gates, approval, the proofs that "
        "it is all in the public log, and the model. "
        "Whether the release was recalled since, or a consent taken back, only a newer head of the public log can tell: "
        "`concord verify . --log FOLDER`.",
        "",
    ]
    return "\n".join(lines).encode()


def _approval(facts: Facts) -> str:
    if facts.decision is None:
        return "which needed no vote beyond its members' signatures on the final model"
    counted = facts.decision.tally
    return (
        f"approved by {', '.join(map(_plain, facts.approved_by))} ({counted.yes} of {counted.total} by weight) on "
        f"{facts.approved:%Y-%m-%d}"
    )


def _purposes(facts: Facts) -> list[str]:
    spec = facts.manifest.spec
    lines = [f"- Purpose: {_plain(purpose)}" for purpose in spec.purposes or ()]
    lines += [f"- Goal: {_plain(code)}" for code in spec.purpose_codes or ()]
    if spec.legal_basis:
        lines.append(f"- Legal basis, as the lead sees it: {_plain(spec.legal_basis)}")
    if spec.release.audience:
        lines.append(f"- For: {_plain(spec.release.audience)}")
    return lines or ["The job named no purpose beyond its description."]


def _groups(facts: Facts) -> list[str]:
    """Figures of families over the whole cohort, as sums: no member's own."""
    last = facts.rounds[-1]
    prefix = "evaluate/"
    named = {name.removeprefix(prefix): value for name, value in last.metrics.items() if name.startswith(prefix)}
    families = sorted({name.partition("/")[0] for name in named if "/" in name})
    if not families:
        return []
    groups = sorted({name.partition("/")[2] for name in named if "/" in name}, key=lambda text: (len(text), text))
    gates = facts.manifest.spec.gates
    ratios = [(each.figures, each.per) for each in (gates.worst_group if gates is not None else ()) if each.per]

    def row(group: str) -> str:
        cells = [_cell(named.get(f"{family}/{group}")) for family in families]
        for figures, per in ratios:
            value, share = named.get(f"{figures}/{group}"), named.get(f"{per}/{group}")
            cells.append("" if value is None or not share or share < 0 else _cell(value / share))
        return f"| {' | '.join([_plain(group), *cells])} |"

    headings = [*families, *(f"{figures} / {per}" for figures, per in ratios)]
    which = "the final model" if facts.manifest.terms().final_evaluation else f"the model before round {last.round}"
    return [
        "## Groups",
        "",
        f"Of {which}: sums over the {len(last.cohort)} members of the last cohort together, as they signed them. A group that one "
        "member alone holds is that member's own figure, whoever it is.",
        "",
        f"| group | {' | '.join(map(_plain, headings))} |",
        f"|{'---|' * (1 + len(headings))}",
        *map(row, groups),
        "",
    ]


def _memorisation(facts: Facts) -> list[str]:
    """What was measured of what the model remembers of its training data; and what was not."""
    tests = {
        "canaries": "Exposure in bits of what members had put into their data (1.44 where nothing is memorised)",
        "membership": "Area under the curve of an attack that tells training examples by their loss (0.5 is a guess)",
    }
    measured = {verdict.gate: verdict for verdict in facts.verdicts if verdict.gate in tests}
    lines = [
        f"- {title}: {_cell(measured[gate].value)}, at most {measured[gate].bound:g} by the job's gate."
        if gate in measured
        else f"- {title}: the job has no such gate, and nothing was measured."
        for gate, title in tests.items()
    ]
    return [
        *lines,
        "",
        "Such tests find what they look for. That they find nothing is no proof that nothing is remembered.",
    ]


def _data(facts: Facts) -> list[str]:
    """In the laboratories' own words, as their nodes signed them with the consents."""
    lines: list[str] = []
    for seat in facts.seats:
        told = {entry.name: words_of(entry) for entry in facts.described[seat.member]}
        consent = facts.consents[seat.member]
        names = [consent.data_set] if consent.binds is None else [name for name, _ in consent.binds.data]
        for name in names:
            words = "; ".join(_plain(" ".join(word.split())) for word in told.get(name, ()))
            lines.append(
                f"- {_plain(seat.member)}, {_plain(name)}: {words or 'the laboratory published no more than the name'}."
            )
    return [
        "The data stayed with the members. What they publish of them is their own word, signed by their nodes with their consents:",
        "",
        *lines,
    ]


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _gates(facts: Facts) -> list[str]:
    if not facts.verdicts:
        return ["The job asked nothing of its final model before it was released."]
    return [
        "What the job asked of its final model, judged by the figures that the members signed for the final evaluation:",
        "",
        *[f"- {_plain(verdict.words)}" for verdict in facts.verdicts],
        "",
        "The figures are what the members' tasks reported on the members' own data. Nobody checked that a task told the truth.",
    ]


def _privacy(facts: Facts) -> list[str]:
    privacy = facts.manifest.privacy
    if privacy is None:
        return [
            "Sums hide a member's update among the others'. They are no differential privacy: what a model remembers of its "
            "training data, somebody may get out of it.",
        ]
    return ["## Differential privacy", "", f"{sentence_of(privacy)}.", "", explanation_of(privacy), *_reserved(facts)]


def _reserved(facts: Facts) -> list[str]:
    rows = [
        f"| {' | '.join(map(_plain, (seat.member, each.data_set, each.charge, str(each.times))))} |"
        for seat in facts.seats
        if (binds := facts.consents[seat.member].binds) is not None
        for each in binds.budget
    ]
    if not rows:
        return []
    return [
        "",
        "What each consent reserved of its data set's budget, and so the most that this job may have charged it:",
        "",
        "| member | data set | charge | times |",
        "|---|---|---|---|",
        *rows,
    ]


def _colluding(quorums: Quorums) -> str:
    if not quorums.f:
        return f"With {quorums.n} members, the secrecy of an update holds as long as no member colludes with the coordinator."
    return f"With {quorums.n} members, up to {quorums.f} may lie, or collude with the coordinator, and learn no one's update."


def _plain(text: str) -> str:
    """Words of others, without effect on the page."""
    return "".join(f"\\{letter}" if letter in _MARKUP and letter not in "-." else letter for letter in text)


def _what(facts: Facts) -> str:
    if facts.state is None:
        names = ", ".join(_plain(each.name) for each in facts.manifest.spec.release.recipients)
        return f"in `{SEALED}`, which opens for {names} alone (`concord release open`)"
    count = sum(array.size for array in facts.state.arrays.values())
    return f"`{MODEL}`, {count} numbers in {len(facts.state.arrays)} arrays"


def _member_row(facts: Facts, seat: Seat) -> str:
    name = facts.roll.member(seat.member).name
    consent, revocation = facts.consents[seat.member], facts.revocations.get(seat.member)
    valid = f"{consent.issued:%Y-%m-%d} to {consent.expires:%Y-%m-%d}"
    if revocation is not None:
        word = "taken back" if revocation.cause == "person" else "ended"
        valid = f"from {consent.issued:%Y-%m-%d}, {word} on {revocation.issued:%Y-%m-%d %H:%M} UTC"
    cells = (seat.member, name, seat.jurisdiction, consent.data_set, str(seat.weight), valid)
    return f"| {' | '.join(map(_plain, cells))} |"


def _round_table(facts: Facts) -> list[str]:
    names = sorted({name for each in facts.rounds for name in each.metrics if name.count("/") == 1})
    rows = [
        f"| {' | '.join(['round', 'members', *map(_plain, names)])} |",
        f"|{'---|' * (2 + len(names))}",
    ]
    for each in facts.rounds:
        cells = [f"{each.metrics[name]:.6g}" if name in each.metrics else "" for name in names]
        rows.append(f"| {' | '.join([str(each.round), str(len(each.cohort)), *cells])} |")
    return rows

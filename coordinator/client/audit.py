"""`concord audit`: the public log for whoever does not want to believe the coordinator."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from coordinator.client import audit_source as sources
from coordinator.client.examined import Examined
from coordinator.client.files import PUBLIC_FILE, check_absent, read_file, write_file, write_new_file
from coordinator.client.home import Home
from coordinator.client.log_keys import KEY_FILE, trusted_key
from coordinator.client.options import DEFAULT_HOME_PATH, FormatOption, HomeOption
from coordinator.client.said import check_held
from coordinator.client.sdk import Federation
from coordinator.client.terminal import Format, data, fields, progress, say, show, table
from federation.audit.checkpoint import VerifierKey, origin_of
from federation.audit.entry import Entry
from federation.audit.history import MAX_EVIDENCE, open_evidence
from federation.audit.named_key import log_key_of, log_keys_of, open_head_under
from federation.audit.proof import MAX_PROOF, Inclusion, verify_inclusion
from federation.audit.verify import fetch_log, verify_log
from federation.errors import InvalidUsage, VerificationFailed
from federation.identity.roll import Roll

audit_app = typer.Typer(no_args_is_help=True, help="The public log: check it, prove from it, read it.")

FolderOption = Annotated[Path | None, typer.Option("--folder", help="A copy that `concord audit fetch` made.")]
UrlOption = Annotated[str, typer.Option("--url", help="Where the log is served, such as https://host/log.")]
KeyOption = Annotated[
    str, typer.Option("--key", help="The log's key, or a file with it; else the one that the home knows.")
]
RollOption = Annotated[Path | None, typer.Option("--roll", help="The roll that says whose cosignatures count.")]


@audit_app.command("verify")
def audit_verify(
    folder: FolderOption = None,
    url: UrlOption = "",
    key: KeyOption = "",
    since: Annotated[Path | None, typer.Option(help="A head that you kept: the log must continue it.")] = None,
    roll: RollOption = None,
    home: HomeOption = DEFAULT_HOME_PATH,
    output: FormatOption = Format.table,
) -> None:
    """Compute the whole log again from its entries: every hash, the signed head, and an older head that you kept."""
    with sources.opened(folder, url, home) as source:
        done = _verified(source, key, since, roll, Home.at(home), [])
    found, trust = done.found, done.trust
    rows = [("ok", sentence) for sentence in done.checks] + [("not checked", sentence) for sentence in done.unchecked]
    document = {
        "verified": True,
        "log": str(trust.key),
        "keyNamedByCharter": trust.named,
        "keyIs": trust.whence,
        "size": found.head.size,
        "root": found.head.root.hex(),
        "signed": _moment(found.head.time * 1000),
        "kinds": dict(sorted(found.kinds.items())),
        "witnesses": {name: _moment(when * 1000) for name, when in sorted(found.witnesses.items())},
        "continues": found.older,
        "checks": list(done.checks),
        "unchecked": list(done.unchecked),
    }
    show(document, output, lambda: table(("RESULT", "CHECK"), rows))
    say(f"the log's key is {trust.key}, {trust.whence}")


@audit_app.command("fetch")
def audit_fetch(
    folder: Annotated[Path, typer.Argument(help="The folder to fill; one that is there is brought up to date.")],
    url: UrlOption = "",
    home: HomeOption = DEFAULT_HOME_PATH,
) -> None:
    """Copy the log into a folder, in the files of C2SP tlog-tiles, with what is needed to check it offline."""
    with sources.opened(None, url, home) as source:
        folder.mkdir(parents=True, exist_ok=True)
        if source.roll is not None:
            write_file(folder / "roll.json", source.roll)
        named = None if source.roll is None else log_key_of(Roll.open(source.roll))
        if named is not None or source.key:
            write_file(folder / KEY_FILE, f"{named or VerifierKey.parse(source.key)}\n".encode())
        credentials = [each.decode(errors="replace") for each in source.credentials()]
        write_file(folder / sources.WITNESSES_FILE, json.dumps({"credentials": credentials}).encode())

        def put(path: str, part: bytes) -> None:
            write_file(folder / path, part)

        with progress("files of the log", counted=True) as step:
            size = fetch_log(source.fetch, put, step)
    say(f"{folder}: {size} entries. Check it: concord audit verify --folder {folder}")


@audit_app.command("prove")
def audit_prove(
    entry: Annotated[
        str, typer.Option("--entry", help="The entry's number, or the digest of its document in hex digits.")
    ],
    out: Annotated[Path, typer.Option(help="The .tlog-proof file to write.")],
    key: KeyOption = "",
    home: HomeOption = DEFAULT_HOME_PATH,
) -> None:
    """Write a proof that an entry is in the log, which anybody can check offline."""
    document, number = _which(entry)
    check_absent(out, what="a file")
    with Federation.connect(home) as federation:
        source = sources.from_coordinator(federation)
        held = sources.trusted_roll(None, source, federation.home, key)
        trust = sources.trusted(key, source, federation.home, held)
        proof = sources.prove(federation, document, number)
        proved = verify_inclusion(proof, trust.key, sources.witness_keys(source, held, trust.key))
    if (document and proved.entry.document != document) or (not document and proved.index != number):
        raise VerificationFailed("The coordinator proves another entry than was asked for.", hint="Tell the members.")
    write_new_file(out, proof.encode(), PUBLIC_FILE, what="a file")
    _say_proved(proved.entry, proved.index, proved.head.size, proved.witnesses)


@audit_app.command("check")
def audit_check(
    proof: Annotated[Path, typer.Argument(help="A .tlog-proof file.")],
    key: KeyOption = "",
    roll: RollOption = None,
    folder: FolderOption = None,
    home: HomeOption = DEFAULT_HOME_PATH,
) -> None:
    """Check a proof offline. Cosignatures count with --folder and --roll: a copy has the nodes' credentials."""
    source = sources.from_folder(folder) if folder is not None else sources.Source("nobody", _nothing, tuple, None, "")
    held = sources.trusted_roll(roll, source, Home.at(home), key)
    trust = sources.trusted(key, source, Home.at(home), held)
    read = Inclusion.decode(read_file(proof, MAX_PROOF, what="The proof"))
    signed = open_head_under(read.note, (trust.key, *trust.earlier))[
        1
    ]  # a proof may be from before the key was changed
    proved = verify_inclusion(read, signed, sources.witness_keys(source, held, trust.key))
    _say_proved(proved.entry, proved.index, proved.head.size, proved.witnesses)
    say(
        f"the log's key is {trust.key}, {trust.whence}" + ("" if signed == trust.key else f"; this head bears {signed}")
    )


@audit_app.command("fork")
def audit_fork(
    file: Annotated[Path, typer.Argument(help="Evidence that a node's witness kept: a .fork file.")],
    key: KeyOption = "",
    roll: RollOption = None,
) -> None:
    """Check evidence that a log was rewritten: two heads that its own key signed, or its key and the one before it."""
    held = None if roll is None else Roll.open(read_file(roll, what="The roll"))
    named = trusted_key(key, held).key if key or (held is not None and log_key_of(held) is not None) else None
    known = () if held is None else log_keys_of(held)
    evidence = open_evidence(read_file(file, MAX_EVIDENCE, what="The evidence"), named, known)
    if evidence.finding == "unreconciled":
        raise VerificationFailed(
            "Both heads are signed by the log, and nothing in the file proves that they contradict one another: "
            f"{evidence.sentence}",
            hint="Ask the log to continue the first: `concord audit verify --since HEAD`.",
        )
    fields(
        {
            "log": str(evidence.key),
            "finding": evidence.finding,
            "first": f"{evidence.first.size} entries, {evidence.first.root.hex()}, {_moment(evidence.first.time * 1000)}",
            "second": f"{evidence.second.size} entries, {evidence.second.root.hex()}, {_moment(evidence.second.time * 1000)}",
        }
    )
    say(evidence.sentence)


@audit_app.command("report")
def audit_report(
    html: Annotated[Path | None, typer.Option(help="The page to write.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the entries as JSON.")] = False,
    job: Annotated[str, typer.Option(help="Only what concerns this job: its digest, or its first digits.")] = "",
    folder: FolderOption = None,
    url: UrlOption = "",
    key: KeyOption = "",
    since: Annotated[Path | None, typer.Option(help="A head that you kept: the log must continue it.")] = None,
    roll: RollOption = None,
    home: HomeOption = DEFAULT_HOME_PATH,
) -> None:
    """Verify the log, then write what happened for people: admissions, jobs, consents, rounds, halts, releases."""
    from coordinator.client.audit_report import document_of, page

    if html is None and not as_json:
        raise InvalidUsage("The report needs a form.", hint="Give --html FILE, or --json.")
    entries: list[tuple[int, Entry]] = []
    with sources.opened(folder, url, home) as source:
        done = _verified(source, key, since, roll, Home.at(home), entries)
    if as_json:
        data(json.dumps(document_of(done, entries, job), indent=1, sort_keys=True))
    if html is not None:
        write_file(html, page(done, entries, job).encode())
        say(f"{html}: {done.found.head.size} entries, verified")


def _verified(
    source: sources.Source,
    given: str,
    since: Path | None,
    roll: Path | None,
    home: Home,
    entries: list[tuple[int, Entry]],
) -> Examined:
    held = sources.trusted_roll(roll, source, home, given)
    trust = sources.trusted(given, source, home, held)
    keys = sources.witness_keys(source, held, trust.key)
    with progress("files of the log", counted=True) as step:
        found = verify_log(
            source.fetch,
            trust.key,
            older=sources.older_head(since, trust),
            witnesses=keys,
            visit=lambda number, entry: entries.append((number, entry)),
            progress=step,
        )
    documents = {entry.document for _, entry in entries}
    own = check_held(home.path, trust.key.name.removeprefix(origin_of("")), documents, found.head.time)
    return Examined(found, trust, own, len(keys))


def _which(entry: str) -> tuple[bytes, int]:
    """(document, number)"""
    if len(entry) == 64 and set(entry) <= set("0123456789abcdef"):
        return bytes.fromhex(entry), 0
    if entry.isascii() and entry.isdecimal() and len(entry) < 16:
        return b"", int(entry)
    raise InvalidUsage(
        f"{entry[:80]!r} names no entry.", hint="Give its number, or 64 hex digits of a document's digest."
    )


def _say_proved(entry: Entry, number: int, size: int, witnesses: object) -> None:
    said = " ".join(f"{name}={value}" for name, value in sorted(entry.fields.items()))
    fields(
        {
            "entry": f"{number} of {size}",
            "kind": entry.kind,
            "time": _moment(entry.time),
            "says": said or "-",
            "document": entry.document.hex() if entry.document else "-",
            "cosigned by": ", ".join(sorted(witnesses)) or "nobody whose key is known here",  # type: ignore[call-overload]
        }
    )


def _nothing(path: str, _limit: int) -> bytes:
    raise InvalidUsage(f"There is no log to fetch {path} from.")


def _moment(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

"""`concord code`: who read a job's code vouches for it. Members' policies may ask for such a signature (`rules.codeSigners`).

It is over the digest of the packed app, the one that the manifest names: a changed byte needs a new one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coordinator.client.home import Home
from coordinator.client.options import DEFAULT_HOME_PATH, HomeOption
from coordinator.client.submission import read_draft
from coordinator.client.terminal import data, say
from federation.manifest.app_folder import read_app_folder
from federation.manifest.bundle import Bundle, pack
from federation.policy.code import code_message

code_app = typer.Typer(no_args_is_help=True, help="The code of a job, and who vouches for it.")
JobFile = Annotated[Path, typer.Option("--file", "-f", help="The job document (YAML).")]


@code_app.command("digest")
def code_digest(file: JobFile) -> None:
    """Print the digest of a job's code, as policies name it (rules.bundles)."""
    data(_bundle(file).digest.hex())


@code_app.command("sign")
def code_sign(file: JobFile, home: HomeOption = DEFAULT_HOME_PATH) -> None:
    """Vouch for a job's code with your key: print the lines that the lead puts into the job's spec."""
    bundle = _bundle(file)
    key = Home.at(home).identity_key()
    signature = key.sign(code_message(bundle.digest))
    say(
        f"You vouch for the code {bundle.digest.hex()}: {len(bundle.files)} files. Put these lines into the job's spec."
    )
    data(f"codeSignatures:\n- {{key: '{key.public.hex()}', signature: '{signature.hex()}'}}")


def _bundle(file: Path) -> Bundle:
    draft = read_draft(file)
    with draft.placed():
        return pack(read_app_folder(draft.folder / (draft.document.spec.app or "")))

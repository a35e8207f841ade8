"""`concord-node`: a lab's own guard and hands. Data goes to stdout, the rest to stderr; an error says what, why, and what to do."""

from __future__ import annotations

import os
import sys
import traceback
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import click
import typer

from federation.command_lines import VersionOption, usage_told, with_examples
from federation.errors import INTERRUPTED_EXIT_CODE, InvalidUsage, PolicyDenied, exit_code, told
from federation.product import product_version
from node_agent.catalogue.commands import data_app
from node_agent.examples import EXAMPLES, GROUPS
from node_agent.roll_commands import roll_app
from node_agent.settings import Home
from node_agent.witness.commands import witness_app

app = typer.Typer(name="concord-node", no_args_is_help=True, pretty_exceptions_enable=False, add_completion=True)
app.add_typer(data_app)
app.add_typer(roll_app, name="roll")
evidence_app = typer.Typer(name="evidence", no_args_is_help=True, help="What this node refused and kept.")
app.add_typer(evidence_app)
policy_app = typer.Typer(name="policy", no_args_is_help=True, help="This lab's rules.")
app.add_typer(policy_app)
app.add_typer(witness_app)


class Levels(StrEnum):
    hold = "hold"
    drain = "drain"
    stop = "stop"


HOME_OPTION: Final = typer.Option("--home", envvar="CONCORD_NODE_HOME", help="The node's home folder.")
HomePath = Annotated[Path, HOME_OPTION]


@app.callback()
def concord_node(version: VersionOption = False) -> None:
    """A lab's node: it joins a federation, decides by the lab's own policy what it takes part in, and trains there."""


@app.command()
def init(
    home: HomePath,
    federation: Annotated[str, typer.Option(help="The federation's name.")],
    member: Annotated[str, typer.Option(help="The member that this lab belongs to.")],
    node: Annotated[str, typer.Option(help="This node's name within the member.")],
    out: Annotated[Path, typer.Option(help="Where to write the request that the member's officer signs.")],
) -> None:
    """Make keys, settings, a policy that denies all, and a request for the member's officer."""
    from node_agent.enrolment import initialise

    key = initialise(Home(home), federation=federation, member=member, node=node, out=out)
    say(f"This node's key is {key}; tell it to the officer by another way than the request.")
    say(f"Made {home}. Have the member's officer sign {out}, then run `concord-node join`.")
    say(f"{home / 'policy.yaml'} denies every job until you write down what this lab agrees to.")


@app.command()
def join(
    home: HomePath,
    ticket: Annotated[Path, typer.Option(help="The one-time ticket from the coordinator's operator.")],
    credential: Annotated[Path, typer.Option(help="The credential that the member's officer signed.")],
    roll: Annotated[Path | None, typer.Option(help="The membership roll, if you got it from your member.")] = None,
) -> None:
    """Enter the federation: exchange a ticket for a transport certificate, and check the membership roll."""
    from node_agent.enrolment import join as enter
    from node_agent.witness.shown import about_key

    address = enter(Home(home), ticket_file=ticket, credential_file=credential, roll_file=roll)
    if warning := about_key(Home(home)):
        say(f"warning: {warning}")
    say(f"Joined by {address}. Start the node with `concord-node run --home {home}`.")


@app.command()
def run(home: HomePath) -> None:
    """Serve the federation until SIGTERM or Ctrl-C."""
    from node_agent.service import serve

    serve(Home(home))


@app.command(name="try")
def try_job(
    job: Annotated[Path, typer.Argument(help="The job document (YAML).")],
    home: HomePath,
    lead: Annotated[
        str | None, typer.Option(help="Who would submit it; else the first lead that the policy allows.")
    ] = None,
) -> None:
    """Rehearse a job on the lab's own data, with its own policy and sandbox. Nothing is sent."""
    from node_agent.rehearsal import rehearse

    rehearse(Home(home), job, lead)


@app.command()
def doctor(
    home: HomePath,
    as_json: Annotated[bool, typer.Option("--json", help="The findings as JSON.")] = False,
    before_join: Annotated[
        bool,
        typer.Option(
            "--before-join", help="Only the way to the coordinator, and the letter for the firewall's people."
        ),
    ] = False,
    ticket: Annotated[Path | None, typer.Option(help="With --before-join: the ticket, which stays unused.")] = None,
) -> None:
    """Say what is wrong with this node, its machine or its network, and what to do. Exit code 1 when something is."""
    from node_agent import doctor as asked

    place, note = Home(home), ""
    if before_join != (ticket is not None):
        raise InvalidUsage("--before-join and --ticket go together.", hint="The ticket says where the coordinator is.")
    if ticket is not None:
        findings, note = asked.examine_route(place, ticket)
    else:
        findings = asked.examine(place)
    if not asked.print_findings(findings, as_json=as_json, note=note):
        raise typer.Exit(1)


@app.command()
def status(
    home: HomePath, output: Annotated[str, typer.Option("--output", "-o", help="table or json.")] = "table"
) -> None:
    """Say whether this node takes part in the federation now, by its own roll, why not, and what it works on."""
    from node_agent.status import print_status

    print_status(Home(home), output)


@app.command()
def consents(home: HomePath) -> None:
    """List what this node was asked, and what it answered."""
    from node_agent.consent.listing import print_consents

    print_consents(Home(home))


JobName = Annotated[str, typer.Argument(help="The job's name, or the first digits of its digest, six at least.")]
Role = Annotated[str, typer.Option("--as", help="The role that decides; the first in node.yaml (deciders) by default.")]


@app.command()
def inbox(
    home: HomePath,
    output: Annotated[str, typer.Option("--output", "-o", help="table or json.")] = "table",
    everything: Annotated[bool, typer.Option("--all", help="Also what was decided, or is over, and why.")] = False,
) -> None:
    """List what waits for a person at this lab: who asks, what for, until when, what the policy says."""
    from node_agent.consent.deciding import print_inbox

    print_inbox(Home(home), output, everything=everything)


@app.command()
def show(job: JobName, home: HomePath) -> None:
    """Show one question: what the job is, reads and gives; or, outside a study, what differs from it alone."""
    from node_agent.consent.deciding import print_question

    print_question(Home(home), job)


@app.command()
def explain(
    job: JobName,
    home: HomePath,
    output: Annotated[str, typer.Option("--output", "-o", help="table or json.")] = "table",
    out: Annotated[Path | None, typer.Option(help="Where to write the verdict that the answer binds.")] = None,
) -> None:
    """Say what this lab answered to a job, by which rules word for word, what the answer binds, and what came after."""
    from node_agent.consent import account

    account.explain(Home(home), job, out, output)


@app.command()
def forget(job: JobName, home: HomePath) -> None:
    """Erase what the rules said to a job that is over. What this node signed stays. The node must be stopped."""
    from node_agent.consent import account

    say(account.forget(Home(home), job))


@app.command()
def grant(
    job: JobName,
    home: HomePath,
    until: Annotated[str, typer.Option(help="When the consent ends: 2026-12-31, or a time in UTC.")] = "",
    role: Role = "",
) -> None:
    """Consent to a job that waits for a person. The lab's rules are asked once more, and may still deny."""
    from node_agent.consent import deciding

    say(deciding.grant(Home(home), job, role, until))


@app.command()
def deny(
    job: JobName,
    home: HomePath,
    reason: Annotated[str, typer.Option(help="Why; it stays at the lab.")],
    tell_lead: Annotated[
        bool, typer.Option("--tell-lead", help="Let the reason leave: everybody can read it.")
    ] = False,
    role: Role = "",
) -> None:
    """Deny a job that waits for a person, for good."""
    from node_agent.consent import deciding

    say(deciding.deny(Home(home), job, role, reason, tell=tell_lead))


@app.command()
def revoke(
    job: JobName,
    home: HomePath,
    reason: Annotated[str, typer.Option(help="Why; it stays at the lab.")],
    role: Role = "",
) -> None:
    """Take a consent back, for good: training stops at once, and nothing more is said of the job."""
    from node_agent.consent import deciding

    say(deciding.revoke(Home(home), job, role, reason))


@app.command()
def budget(
    home: HomePath,
    output: Annotated[str, typer.Option("--output", "-o", help="table or json.")] = "table",
    accept_loss: Annotated[
        bool,
        typer.Option(
            "--accept-loss",
            help="The journal was lost or put back, and the budgets are lowered by what it forgot: go on.",
        ),
    ] = False,
) -> None:
    """Show what each data set's privacy budget is, what was spent of it, what is reserved, and by which jobs."""
    from node_agent.consent import spending

    if accept_loss:
        spending.accept_loss(Home(home))
    spending.print_budget(Home(home), output)


@app.command()
def halt(
    home: HomePath,
    job: Annotated[
        str, typer.Option(help="The job's digest, or the first six digits of it; else all that this node does.")
    ] = "",
    level: Annotated[
        Levels, typer.Option(help="hold: begin nothing new; drain: end the round, then stop; stop: at once.")
    ] = Levels.stop,
    reason: Annotated[str, typer.Option(help="Why, for your own people.")] = "",
    order: Annotated[Path | None, typer.Option(help="Obey an order that somebody else signed, from a file.")] = None,
    receipt: Annotated[Path | None, typer.Option(help="With --order: the coordinator's receipt for it.")] = None,
) -> None:
    """Halt this node, or one job here, at once: without a network, a coordinator, or anybody's leave."""
    from node_agent.halt.commands import halt_here, take_here

    if order is not None:
        take_here(Home(home), order, receipt)
    else:
        halt_here(Home(home), job, level.value, reason)


@app.command()
def halts(home: HomePath) -> None:
    """List the orders that this node knows, and which of them stand."""
    from node_agent.halt.commands import print_halts

    print_halts(Home(home))


@app.command()
def lift(
    order: Annotated[str, typer.Argument(help="This node's own order, by the first digits of its digest.")],
    home: HomePath,
    reason: Annotated[str, typer.Option(help="Why, for your own people.")] = "",
) -> None:
    """Lift a halt that this node gave itself. A stop of a job is final."""
    from node_agent.halt.commands import lift_here

    lift_here(Home(home), order, reason)


@app.command("version")
def version_command() -> None:
    """Print the version."""
    print(product_version())


@evidence_app.command(name="list")
def evidence_list(home: HomePath) -> None:
    """List the messages that this node refused and kept: file, time, job, check, kind."""
    from node_agent.evidence import print_list

    print_list(Home(home))


@evidence_app.command(name="show")
def evidence_show(
    piece: Annotated[str, typer.Argument(help="The first digits of its name, six at least.")], home: HomePath
) -> None:
    """Show one of them: which check refused it, what to do, and the message field by field."""
    from node_agent.evidence import print_piece

    print_piece(Home(home), piece)


POLICY_HOME: Final = typer.Option("--home", envvar="CONCORD_NODE_HOME", help="The node's home folder.")


@policy_app.command(name="check")
def policy_check(
    job: Annotated[Path, typer.Argument(help="The job document (YAML).")],
    home: HomePath,
    lead: Annotated[
        str | None, typer.Option(help="Who would submit it; else the first lead that the policy allows.")
    ] = None,
    at: Annotated[str | None, typer.Option(help="Local time at which it would be asked: 2027-01-31 23:00.")] = None,
    output: Annotated[str, typer.Option("--output", "-o", help="table or json.")] = "table",
    out: Annotated[Path | None, typer.Option(help="Where to write the verdict, in canonical JSON.")] = None,
) -> None:
    """Say what this lab's rules say to a job, with every reason, its file and its line. Exit code 0: granted, 4: not."""
    from node_agent.policy_commands import check

    if not check(Home(home), job, lead, at, output, out):
        raise typer.Exit(exit_code(PolicyDenied("")))


@policy_app.command(name="explain")
def policy_explain(
    topic: Annotated[
        str | None, typer.Argument(help="A word such as leads, or a verdict's file; else all rules.")
    ] = None,
    home: Annotated[Path | None, POLICY_HOME] = None,
) -> None:
    """Say what this lab's rules mean, sentence by sentence; or what a word means; or which rule decided in a verdict."""
    from node_agent.policy_commands import explain

    explain(Home(home) if home is not None else None, topic)


@policy_app.command(name="diff")
def policy_diff(
    old: Annotated[Path, typer.Argument(help="The policy or pack as it is.")],
    new: Annotated[Path, typer.Argument(help="The policy or pack as it would be.")],
) -> None:
    """Say in words what a change of rules makes narrower and what wider, by what they let pass and not by their text."""
    from node_agent.policy_commands import difference

    difference(old, new)


@policy_app.command(name="test")
def policy_test(
    home: Annotated[Path | None, POLICY_HOME] = None,
    policy: Annotated[Path | None, typer.Option(help="A policy file, instead of a node's.")] = None,
    cases: Annotated[
        Path | None, typer.Option(help="The example cases; else policy.cases.yaml beside the policy.")
    ] = None,
) -> None:
    """Hold the rules against the example cases beside them. Exit code 0: all hold, 4: one does not."""
    from node_agent.policy_commands import run_cases

    if not run_cases(Home(home) if home is not None and policy is None else None, policy, cases):
        raise typer.Exit(exit_code(PolicyDenied("")))


@policy_app.command(name="runtime")
def policy_runtime() -> None:
    """Print the digest of this node's runtime, Python and every package, as rules.runtimeDigests names it."""
    from node_agent.runner.runtime import runtime_digest

    print(runtime_digest())


@policy_app.command(name="forget")
def policy_forget(
    pack: Annotated[str, typer.Argument(help="The pack's name, as in its metadata.")], home: HomePath
) -> None:
    """Take a policy pack out of this node's memory: it is missed no more, and another may take its name."""
    from node_agent.consent.packs import forget

    forget(Home(home), pack)
    say(f"{pack} is forgotten. If it still lies in policy.d, it is seen anew.")


with_examples(app, EXAMPLES, GROUPS)


def say(text: str) -> None:
    print(text, file=sys.stderr)


def main() -> int:
    """The entry point: the exit code follows the errors' table; a trace is shown with CONCORD_DEBUG=1 alone."""
    try:
        code = app(prog_name="concord-node", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED_EXIT_CODE
    except click.ClickException as error:
        for line in usage_told(error):
            say(line)
        return 2
    except Exception as error:
        if os.environ.get("CONCORD_DEBUG") == "1":
            traceback.print_exception(error)
        say("\n".join(told(error)))
        return exit_code(error)
    return code if isinstance(code, int) else 0


if __name__ == "__main__":
    sys.exit(main())

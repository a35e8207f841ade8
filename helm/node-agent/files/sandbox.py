"""`helm test`: in a pod with the agent's own security context, the sandbox of a job's code runs."""

import sys

from node_agent.runner.sandbox import detect_sandbox

report = detect_sandbox()
print(f"sandbox: {report.kind} {' '.join(report.options)}")
if report.kind != "bubblewrap":
    sys.exit(f"{report.reason}\n  what to do: {report.hint}")

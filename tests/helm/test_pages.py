"""What docs/how-to/kubernetes.md tells people to type is what the charts take."""

import re
from typing import Any

import helm_python
import pytest
import yaml

from tests.helm.charts import LEAST, NAMESPACE, ROOT, WATCHED, loaded, over, over_tls, pod, rendered

PAGE = (ROOT / "docs" / "how-to" / "kubernetes.md").read_text()
YAML = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
SHELL = "\n".join(re.findall(r"^ *```sh\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE)).replace("\\\n", " ")
COMMANDS = [line.strip() for line in SHELL.splitlines() if re.match(r"\s*helm (install|upgrade) ", line)]


def named(title: str) -> dict[str, Any]:
    (text,) = (text for text in YAML if text.startswith(title))
    return dict(yaml.safe_load(text))


def values_of(command: str) -> tuple[str, dict[str, Any]]:
    """The chart that a command names, and the values that it gives."""
    (chart,) = re.findall(r"helm/([a-z-]+)", command)
    values = dict(LEAST[chart]) if "..." in command else {}
    if "-f lab.yaml" in command:
        values = yaml.safe_load(YAML[0])
    if "-f gpu.yaml" in command:
        values = over(values, named("# gpu.yaml"))
    if "policyFrom" in command:  # the page says to take it out
        del values["policy"]
    for given in re.findall(r"--set (\S+)", command):
        values = over(values, helm_python.parse_set_string(given))
    return chart, values


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_page_is_taken(command: str) -> None:
    chart, values = values_of(command)
    (release,) = re.findall(r"helm (?:install|upgrade) (\S+)", command)
    assert loaded(chart).render(values, name=release, namespace=NAMESPACE)


def test_the_page_has_both_charts_and_its_names_are_those_that_are_made() -> None:
    assert {values_of(command)[0] for command in COMMANDS} == set(LEAST)
    assert YAML[0].startswith("# lab.yaml")
    made = loaded("node-agent").render(yaml.safe_load(YAML[0]), name="br-1", namespace=NAMESPACE)
    (text,) = (text for path, text in made.items() if path.endswith("statefulset.yaml"))
    assert f"{yaml.safe_load(text)['metadata']['name']}-0" in SHELL


def test_the_metrics_of_the_page_are_taken_by_both_charts() -> None:
    given = [yaml.safe_load(text) for text in YAML if text.startswith("metrics:")]
    assert {"tls" in values["metrics"] for values in given} == {True, False}
    for chart, least in LEAST.items():
        for values in given:
            assert loaded(chart).render(over(least, values), name="r", namespace=NAMESPACE)


def test_the_gpus_of_the_page_reach_the_agent_alone() -> None:
    values = over(yaml.safe_load(YAML[0]), named("# gpu.yaml"))
    spec = pod(rendered("node-agent", values), "agent")
    (agent,) = spec["containers"]
    assert agent["resources"]["limits"] == {"memory": "128Gi", "nvidia.com/gpu": "2"}
    assert agent["image"].endswith(":0.1.0-cuda")
    assert spec["runtimeClassName"] == "nvidia"
    assert spec["nodeSelector"] == values["nodeSelector"]
    assert "nvidia.com/gpu" not in str(spec["initContainers"])


def test_the_names_that_a_certificate_of_metrics_must_have_are_those_of_the_services() -> None:
    for release, chart in (("hub", "coordinator"), ("br-1", "node-agent")):
        values = over_tls(over(LEAST[chart], WATCHED))
        made = loaded(chart).render(values, name=release, namespace="NAMESPACE".lower())
        (monitor,) = (yaml.safe_load(text) for path, text in made.items() if path.endswith("servicemonitor.yaml"))
        name = monitor["spec"]["endpoints"][0]["tlsConfig"]["serverName"]
        assert f"`{name.replace('namespace', 'NAMESPACE')}`" in PAGE


def test_the_refusal_on_the_page_is_what_the_chart_says() -> None:
    values = over(LEAST["coordinator"], {"metrics": {"service": {"type": "LoadBalancer"}}})
    with pytest.raises(helm_python.HelmRenderError) as caught:
        loaded("coordinator").render(values, name="r", namespace=NAMESPACE)
    (shown,) = re.findall(r"```\n(metrics\..*?)\n```", PAGE, re.DOTALL)
    assert caught.value.detail.endswith(shown)

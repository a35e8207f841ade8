"""The Pod Security Standards of Kubernetes, level restricted with all of baseline: each control, and what of a pod breaks it.

After https://kubernetes.io/docs/concepts/security/pod-security-standards, with what 1.34 added on hosts of probes. Linux alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

Document = Mapping[str, Any]
SYSCTLS: Final = frozenset(
    {
        *("kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_unprivileged_port_start"),
        *("net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range", "net.ipv4.ip_local_reserved_ports"),
        *("net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl"),
        *("net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem"),
    }
)
VOLUMES: Final = frozenset(
    {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
)
PROBES: Final = ("livenessProbe", "readinessProbe", "startupProbe")


def containers_of(spec: Document) -> list[Document]:
    return [item for kind in ("initContainers", "containers", "ephemeralContainers") for item in spec.get(kind) or ()]


def contexts(spec: Document) -> Iterator[tuple[str, Document]]:
    """The security context of the pod, and of each container."""
    yield "pod", spec.get("securityContext") or {}
    for container in containers_of(spec):
        yield container["name"], container.get("securityContext") or {}


def _wrong(spec: Document, bad: Callable[[Document], bool]) -> list[str]:
    return [name for name, context in contexts(spec) if bad(context)]


def _host_process(_: Document, spec: Document) -> list[str]:
    return _wrong(spec, lambda held: bool((held.get("windowsOptions") or {}).get("hostProcess")))


def _host_namespaces(_: Document, spec: Document) -> list[str]:
    return [name for name in ("hostNetwork", "hostPID", "hostIPC") if spec.get(name)]


def _privileged(_: Document, spec: Document) -> list[str]:
    return _wrong(spec, lambda held: bool(held.get("privileged")))


def _capabilities(_: Document, spec: Document) -> list[str]:
    def bad(container: Document) -> bool:
        held = (container.get("securityContext") or {}).get("capabilities") or {}
        return "ALL" not in held.get("drop", ()) or not set(held.get("add") or ()) <= {"NET_BIND_SERVICE"}

    return [container["name"] for container in containers_of(spec) if bad(container)]


def _volumes(_: Document, spec: Document) -> list[str]:
    return [volume["name"] for volume in spec.get("volumes") or () if not set(volume) - {"name"} <= VOLUMES]


def _host_ports(_: Document, spec: Document) -> list[str]:
    return [
        container["name"]
        for container in containers_of(spec)
        if any(port.get("hostPort") for port in container.get("ports") or ())
    ]


def _host_probes(_: Document, spec: Document) -> list[str]:
    def asked(container: Document) -> Iterator[Document]:
        yield from (container.get(name) or {} for name in PROBES)
        yield from (hook or {} for hook in (container.get("lifecycle") or {}).values())

    return [
        container["name"]
        for container in containers_of(spec)
        if any((probe.get(way) or {}).get("host") for probe in asked(container) for way in ("httpGet", "tcpSocket"))
    ]


def _app_armor(metadata: Document, spec: Document) -> list[str]:
    allowed = {"RuntimeDefault", "Localhost"}
    found = _wrong(spec, lambda held: "appArmorProfile" in held and held["appArmorProfile"].get("type") not in allowed)
    for name, value in (metadata.get("annotations") or {}).items():
        if name.startswith("container.apparmor.security.beta.kubernetes.io/"):
            found += [name] if value != "runtime/default" and not value.startswith("localhost/") else []
    return found


def _selinux(_: Document, spec: Document) -> list[str]:
    def bad(held: Document) -> bool:
        options = held.get("seLinuxOptions") or {}
        types = {None, "", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}
        return options.get("type") not in types or bool(options.get("user") or options.get("role"))

    return _wrong(spec, bad)


def _proc_mount(_: Document, spec: Document) -> list[str]:
    return _wrong(spec, lambda held: held.get("procMount", "Default") != "Default")


def _seccomp(_: Document, spec: Document) -> list[str]:
    own = (spec.get("securityContext") or {}).get("seccompProfile", {}).get("type")

    def bad(container: Document) -> bool:
        held = (container.get("securityContext") or {}).get("seccompProfile", {}).get("type", own)
        return held not in {"RuntimeDefault", "Localhost"}

    return [container["name"] for container in containers_of(spec) if bad(container)]


def _sysctls(_: Document, spec: Document) -> list[str]:
    asked = (spec.get("securityContext") or {}).get("sysctls") or ()
    return [item["name"] for item in asked if item["name"] not in SYSCTLS]


def _escalation(_: Document, spec: Document) -> list[str]:
    return [
        container["name"]
        for container in containers_of(spec)
        if (container.get("securityContext") or {}).get("allowPrivilegeEscalation") is not False
    ]


def _non_root(_: Document, spec: Document) -> list[str]:
    own = (spec.get("securityContext") or {}).get("runAsNonRoot")
    return [
        container["name"]
        for container in containers_of(spec)
        if (container.get("securityContext") or {}).get("runAsNonRoot", own) is not True
    ]


def _non_root_user(_: Document, spec: Document) -> list[str]:
    return _wrong(spec, lambda held: held.get("runAsUser") == 0)


CONTROLS: Final[Mapping[str, Callable[[Document, Document], list[str]]]] = {
    "HostProcess": _host_process,
    "Host Namespaces": _host_namespaces,
    "Privileged Containers": _privileged,
    "Capabilities": _capabilities,
    "Volume Types": _volumes,
    "Host Ports": _host_ports,
    "Host Probes and Lifecycle Hooks": _host_probes,
    "AppArmor": _app_armor,
    "SELinux": _selinux,
    "/proc Mount Type": _proc_mount,
    "Seccomp": _seccomp,
    "Sysctls": _sysctls,
    "Privilege Escalation": _escalation,
    "Running as Non-root": _non_root,
    "Running as Non-root user": _non_root_user,
}


def broken(metadata: Document, spec: Document) -> dict[str, list[str]]:
    """The controls that a pod breaks, each with what breaks it."""
    found = {name: control(metadata, spec) for name, control in CONTROLS.items()}
    return {name: what for name, what in found.items() if what}

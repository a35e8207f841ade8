{{/* What a schema cannot say. Each refusal is the value's path, one sentence, and a hint. */}}
{{- define "concord.checks" -}}
{{- $values := .Values -}}
{{- range $name := list "federation" "member" "node" -}}
{{- if not (index $values $name) -}}
{{- fail (printf "%s: it is empty. Set it as it stands in your ticket." $name) -}}
{{- end -}}
{{- end -}}
{{- if not $values.image.repository -}}
{{- fail "image.repository: it is empty. Build the image (docs/how-to/images.md), push it, and name it here." -}}
{{- end -}}
{{- if not $values.coordinator.address -}}
{{- fail "coordinator.address: it is empty. Set host:port, as the federation's operator told you." -}}
{{- end -}}
{{- include "concord.checkRoute" . -}}
{{- include "concord.checkMetrics" . -}}
{{- include "concord.checkData" . -}}
{{- include "concord.checkSandbox" . -}}
{{- if and $values.storage.existingClaim $values.storage.storageClass -}}
{{- fail "storage.storageClass: the claim of storage.existingClaim has a class already. Give one of the two." -}}
{{- end -}}
{{- end -}}

{{- define "concord.checkRoute" -}}
{{- $values := .Values -}}
{{- $ways := 0 -}}
{{- range list $values.coordinator.cidrs $values.coordinator.namespace $values.proxy.existingSecret -}}
{{- if . -}}{{- $ways = add1 $ways -}}{{- end -}}
{{- end -}}
{{- if gt (int $ways) 1 -}}
{{- fail "coordinator: cidrs, namespace and proxy.existingSecret are three ways to one coordinator. Give one of them." -}}
{{- end -}}
{{- if and $values.networkPolicy.enabled (eq (int $ways) 0) -}}
{{- fail "coordinator.cidrs: it is empty, so the NetworkPolicy would keep the agent from its coordinator. Name its addresses; policies know no names." -}}
{{- end -}}
{{- if and $values.proxy.cidrs (not $values.proxy.existingSecret) -}}
{{- fail "proxy.existingSecret: proxy.cidrs is given, and no proxy. Name the Secret with the proxy's URL." -}}
{{- end -}}
{{- if and $values.networkPolicy.enabled $values.proxy.existingSecret (not $values.proxy.cidrs) -}}
{{- fail "proxy.cidrs: it is empty, so the NetworkPolicy would keep the agent from its proxy. Name the proxy's addresses." -}}
{{- end -}}
{{- range $path, $cidrs := dict "coordinator.cidrs" $values.coordinator.cidrs "proxy.cidrs" $values.proxy.cidrs -}}
{{- range $cidrs -}}
{{- if hasSuffix "/0" . -}}
{{- fail (printf "%s: %s lets the agent reach everything. Name the address alone, such as 192.0.2.10/32." $path .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "concord.checkMetrics" -}}
{{- $values := .Values -}}
{{- if ne $values.metrics.service.type "ClusterIP" -}}
{{- fail (printf "metrics.service.type: %s would publish /metrics without TLS. Leave ClusterIP, and let metrics.from say who scrapes." $values.metrics.service.type) -}}
{{- end -}}
{{- if and $values.metrics.enabled (not $values.networkPolicy.enabled) -}}
{{- fail "networkPolicy.enabled: without it the whole cluster reads /metrics, which has no TLS. Leave it true, or set metrics.enabled to false." -}}
{{- end -}}
{{- range $kind := list "serviceMonitor" "prometheusRule" "dashboards" -}}
{{- if and (index $values.metrics $kind).enabled (not $values.metrics.enabled) -}}
{{- fail (printf "metrics.%s.enabled: there are no metrics when metrics.enabled is false. Set both to true, or neither." $kind) -}}
{{- end -}}
{{- end -}}
{{- if and $values.metrics.serviceMonitor.enabled (not $values.metrics.from) -}}
{{- fail "metrics.from: it is empty, so the NetworkPolicy would keep Prometheus out. Say where Prometheus runs, with a namespaceSelector for example." -}}
{{- end -}}
{{- range $values.metrics.from -}}
{{- with (index . "ipBlock") -}}
{{- if hasSuffix "/0" .cidr -}}
{{- fail (printf "metrics.from: %s is everybody, and /metrics has no TLS. Name the scraper's own network." .cidr) -}}
{{- end -}}
{{- end -}}
{{- if and (hasKey . "namespaceSelector") (not .namespaceSelector) (not .podSelector) -}}
{{- fail "metrics.from: an empty namespaceSelector is the whole cluster, and /metrics has no TLS. Name the scraper's namespace." -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "concord.checkData" -}}
{{- $values := .Values -}}
{{- $root := . -}}
{{- $home := $values.storage.existingClaim | default (printf "home-%s-0" (include "concord.fullname" .)) -}}
{{- range $name, $held := $values.dataSets -}}
{{- $path := printf "dataSets.%s.existingClaim" $name -}}
{{- if eq $held.existingClaim $home -}}
{{- fail (printf "%s: %s is the volume of this node's own home and keys. Put the data on a claim of its own." $path $held.existingClaim) -}}
{{- end -}}
{{- $claim := lookup "v1" "PersistentVolumeClaim" $root.Release.Namespace $held.existingClaim | default dict -}}
{{- $owner := dig "metadata" "labels" "app.kubernetes.io/name" "" $claim -}}
{{- if or (eq $owner "concord-coordinator") (contains "concord-coordinator" $held.existingClaim) -}}
{{- fail (printf "%s: %s is the volume of a coordinator, which must never see data. Put the data on a claim of its own." $path $held.existingClaim) -}}
{{- end -}}
{{- range $other, $theirs := $values.dataSets -}}
{{- if and (ne $name $other) (eq $held.existingClaim $theirs.existingClaim) (index $held "privacyBudget") -}}
{{- $here := printf "%s/" (trimSuffix "/" ($held.subPath | default "")) | trimPrefix "/" -}}
{{- $there := printf "%s/" (trimSuffix "/" ($theirs.subPath | default "")) | trimPrefix "/" -}}
{{- if or (hasPrefix $here $there) (hasPrefix $there $here) -}}
{{- fail (printf "dataSets.%s: it holds files of %s, which has a privacy budget. Under another name their spending would begin anew; use a tag." $other $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range (dig "rules" "dataSets" list $values.policy) -}}
{{- if not (hasKey $values.dataSets .) -}}
{{- fail (printf "policy.rules.dataSets: this node has no data set %s. Add it under dataSets, or take it out of the policy." .) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "concord.checkSandbox" -}}
{{- $values := .Values -}}
{{- if and (eq (dig "sandbox" "required" $values.policy) "optional") (not $values.sandbox.acceptUnsandboxed) -}}
{{- fail "policy.sandbox: optional lets a job's code run beside this node's keys and with its network. Use required with sandbox.mode bubblewrap, or set sandbox.acceptUnsandboxed." -}}
{{- end -}}
{{- if eq $values.sandbox.mode "bubblewrap" -}}
{{- if semverCompare "<1.33.0-0" .Capabilities.KubeVersion.Version -}}
{{- fail (printf "sandbox.mode: bubblewrap needs user namespaces for pods, which Kubernetes %s does not have without a feature gate. Use 1.33 or later, or mode none." .Capabilities.KubeVersion.Version) -}}
{{- end -}}
{{- else if $values.sandbox.appArmorProfile -}}
{{- fail "sandbox.appArmorProfile: it is used with sandbox.mode bubblewrap alone. Set the mode, or leave the profile empty." -}}
{{- end -}}
{{- end -}}

{{/* What a schema cannot say. Each refusal is the value's path, one sentence, and a hint. */}}
{{- define "concord.checks" -}}
{{- $values := .Values -}}
{{- range $name := list "federation" "member" "node" -}}
{{- if not (index $values $name) -}}
{{- fail (printf "%s: it is empty. Set it as it stands in your ticket." $name) -}}
{{- end -}}
{{- end -}}
{{- if not $values.coordinator.address -}}
{{- fail "coordinator.address: it is empty. Set host:port, as the federation's operator told you." -}}
{{- end -}}
{{- include "concord.checkCommon" . -}}
{{- include "concord.checkRoute" . -}}
{{- include "concord.checkData" . -}}
{{- include "concord.checkPolicy" . -}}
{{- include "concord.checkSandbox" . -}}
{{- if and $values.gpu.count (hasKey (merge (dict) ($values.resources.requests | default dict) $values.resources.limits) $values.gpu.resource) -}}
{{- fail (printf "gpu.count: resources speaks of %s, too. Say it in one of the two places." $values.gpu.resource) -}}
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
{{- if and (not $values.proxy.existingSecret) (or (ne (int $values.proxy.port) 3128) (ne $values.proxy.key "url")) -}}
{{- fail (printf "proxy.%s: it is given, and no proxy. Name the Secret with the proxy's URL in proxy.existingSecret, or leave this as it is." (ternary "key" "port" (ne $values.proxy.key "url"))) -}}
{{- end -}}
{{- if and $values.networkPolicy.enabled $values.proxy.existingSecret (not $values.proxy.cidrs) -}}
{{- fail "proxy.cidrs: it is empty, so the NetworkPolicy would keep the agent from its proxy. Name the proxy's addresses." -}}
{{- end -}}
{{- /* Of networks a template cannot tell what is in them; of single addresses it can. */ -}}
{{- $host := regexFind "^([0-9]+\\.){3}[0-9]+:" $values.coordinator.address | trimSuffix ":" -}}
{{- if and $host $values.coordinator.cidrs (not (has (printf "%s/32" $host) $values.coordinator.cidrs)) -}}
{{- $single := true -}}
{{- range $values.coordinator.cidrs -}}{{- if not (or (hasSuffix "/32" .) (contains ":" .)) -}}{{- $single = false -}}{{- end -}}{{- end -}}
{{- if $single -}}
{{- fail (printf "coordinator.cidrs: %s, the coordinator's address, is none of them, so the NetworkPolicy would keep the agent from it. Add %s/32." $host $host) -}}
{{- end -}}
{{- end -}}
{{- range $path, $cidrs := dict "coordinator.cidrs" $values.coordinator.cidrs "proxy.cidrs" $values.proxy.cidrs -}}
{{- range $cidrs -}}
{{- include "concord.checkWidth" (dict "path" $path "cidr" . "sentence" "lets the agent reach nearly everything" "hint" "Name the address alone, such as 192.0.2.10/32") -}}
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
{{- range (dig "rules" "dataSets" list $values.policy) | default list -}}
{{- if not (hasKey $values.dataSets (toString .)) -}}
{{- fail (printf "policy.rules.dataSets: this node has no data set %v. Add it under dataSets, or take it out of the policy." .) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The policy has one source. */}}
{{- define "concord.checkPolicy" -}}
{{- $values := .Values -}}
{{- with $values.policyFrom -}}
{{- if and .existingConfigMap .existingSecret -}}
{{- fail "policyFrom: existingConfigMap and existingSecret are two sources of one policy. Give one of them." -}}
{{- end -}}
{{- if or .existingConfigMap .existingSecret -}}
{{- $unsaid := dict "apiVersion" "concord/v1" "kind" "NodePolicy" "rules" dict "sandbox" "required" -}}
{{- if ne (toJson $values.policy) (toJson $unsaid) -}}
{{- fail "policy: policyFrom names where the policy is, so that this one would be passed over. Give one of the two." -}}
{{- end -}}
{{- if $values.policyPacks -}}
{{- fail "policyPacks: policyFrom names where the packs are, so that these would be passed over. Put them beside its policy.yaml." -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $names := dict -}}
{{- range $file, $pack := $values.policyPacks -}}
{{- if has $file (list "policy" "node") -}}
{{- fail (printf "policyPacks.%s: %s.yaml is another file of the node. Take another name." $file $file) -}}
{{- end -}}
{{- $name := $pack.metadata.name -}}
{{- if hasKey $names $name -}}
{{- fail (printf "policyPacks.%s.metadata.name: %s is the name of another pack, and the node would deny every job. Give each its own." $file $name) -}}
{{- end -}}
{{- $_ := set $names $name true -}}
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
{{- if eq $values.sandbox.appArmorProfile "RuntimeDefault" -}}
{{- fail "sandbox.appArmorProfile: RuntimeDefault is what stands when it is empty, and it forbids the mounts of a sandbox. Leave it empty, or name a profile that allows them." -}}
{{- end -}}
{{- else if $values.sandbox.appArmorProfile -}}
{{- fail "sandbox.appArmorProfile: it is used with sandbox.mode bubblewrap alone. Set the mode, or leave the profile empty." -}}
{{- end -}}
{{- end -}}

{{/* What both charts refuse, and a schema cannot say. Each refusal is the value's path, one sentence, and a hint. */}}
{{- define "concord.checkCommon" -}}
{{- $values := .Values -}}
{{- if not $values.image.repository -}}
{{- fail "image.repository: it is empty. Build the image (docs/how-to/images.md), push it, and name it here." -}}
{{- end -}}
{{- $name := include "concord.fullname" . -}}
{{- if not (regexMatch "^[a-z]([a-z0-9-]*[a-z0-9])?$" $name) -}}
{{- fail (printf "fullnameOverride: %s, made from the release's name, cannot name a Service, which begins with a letter and has no dots. Give one of letters, digits and hyphens." $name) -}}
{{- end -}}
{{- if and $values.storage.existingClaim $values.storage.storageClass -}}
{{- fail "storage.storageClass: the claim of storage.existingClaim has a class already. Give one of the two." -}}
{{- end -}}
{{- with $values.podDisruptionBudget -}}
{{- if and .enabled (eq (int .maxUnavailable) 0) (not .acceptBlockedDrains) -}}
{{- fail "podDisruptionBudget.maxUnavailable: 0 lets no drain of this one pod's machine ever end. Leave 1, or set podDisruptionBudget.acceptBlockedDrains." -}}
{{- end -}}
{{- end -}}
{{- range $resource, $asked := ($values.resources.requests | default dict) -}}
{{- with index ($values.resources.limits) $resource -}}
{{- if gt (include "concord.amount" $asked | float64) (include "concord.amount" . | float64) -}}
{{- fail (printf "resources.requests.%s: %v is more than the limit, %v. Ask for no more than resources.limits allows." $resource $asked .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $places := dict -}}
{{- range $number, $constraint := $values.topologySpreadConstraints -}}
{{- $place := printf "%s %s" .topologyKey .whenUnsatisfiable -}}
{{- if hasKey $places $place -}}
{{- fail (printf "topologySpreadConstraints.%d: there is one for %s already. Give one for each topologyKey and whenUnsatisfiable." $number $place) -}}
{{- end -}}
{{- $_ := set $places $place true -}}
{{- end -}}
{{- $labels := dict "podLabels" $values.podLabels "metrics.serviceMonitor.labels" $values.metrics.serviceMonitor.labels -}}
{{- $_ := set $labels "metrics.prometheusRule.labels" $values.metrics.prometheusRule.labels -}}
{{- $_ := set $labels "metrics.dashboards.labels" $values.metrics.dashboards.labels -}}
{{- range $path, $map := $labels -}}
{{- range $name, $_ := $map -}}
{{- if regexMatch "^(app\\.kubernetes\\.io|helm\\.sh)/" $name -}}
{{- fail (printf "%s.%s: it is the chart's own label, by which policies and Services find things. Take another name." $path $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $name, $_ := $values.podAnnotations -}}
{{- if regexMatch "^(concord|([^/]*\\.)?helm\\.sh)/" $name -}}
{{- fail (printf "podAnnotations.%s: it is the chart's own. Take another name." $name) -}}
{{- end -}}
{{- if regexMatch "^((container\\.)?(apparmor|seccomp)\\.security\\.(alpha|beta)\\.kubernetes\\.io)/" $name -}}
{{- fail (printf "podAnnotations.%s: it loosens the pod's confinement beside its security context. Take it out." $name) -}}
{{- end -}}
{{- if regexMatch "^([^/]*\\.)?cni\\.cncf\\.io/" $name -}}
{{- fail (printf "podAnnotations.%s: it gives the pod a network that no NetworkPolicy guards. Take it out." $name) -}}
{{- end -}}
{{- end -}}
{{- include "concord.checkMetrics" . -}}
{{- include "concord.checkPolicies" . -}}
{{- end -}}

{{- define "concord.checkMetrics" -}}
{{- $values := .Values -}}
{{- $tls := $values.metrics.tls.existingSecret -}}
{{- if ne $values.metrics.service.type "ClusterIP" -}}
{{- fail (printf "metrics.service.type: %s would publish /metrics %s. Leave ClusterIP, and let metrics.from say who scrapes." $values.metrics.service.type (ternary "to whoever comes" "without TLS" (not (empty $tls)))) -}}
{{- end -}}
{{- if and $values.metrics.enabled (not $values.networkPolicy.enabled) (not $tls) -}}
{{- fail "networkPolicy.enabled: without it the whole cluster reads /metrics, which has no TLS. Leave it true, or set metrics.enabled to false, or metrics.tls.existingSecret." -}}
{{- end -}}
{{- if not $values.metrics.enabled -}}
{{- range $kind := list "serviceMonitor" "prometheusRule" "dashboards" -}}
{{- if (index $values.metrics $kind).enabled -}}
{{- fail (printf "metrics.%s.enabled: there are no metrics when metrics.enabled is false. Set both to true, or neither." $kind) -}}
{{- end -}}
{{- end -}}
{{- if $values.metrics.from -}}
{{- fail "metrics.from: there are no metrics when metrics.enabled is false. Set it to true, or leave this empty." -}}
{{- end -}}
{{- if $tls -}}
{{- fail "metrics.tls.existingSecret: there are no metrics when metrics.enabled is false. Set it to true, or leave this empty." -}}
{{- end -}}
{{- end -}}
{{- if and $tls (eq $tls $values.keys.existingSecret) -}}
{{- fail "metrics.tls.existingSecret: it is the Secret with the private keys, too, and Prometheus is sent to this one. Make one for the metrics alone." -}}
{{- end -}}
{{- if and $values.metrics.tls.serverName (not $tls) -}}
{{- fail "metrics.tls.serverName: it is used with metrics.tls.existingSecret alone. Name the Secret, or leave this empty." -}}
{{- end -}}
{{- if and $values.metrics.serviceMonitor.enabled $values.networkPolicy.enabled (not $values.metrics.from) -}}
{{- fail "metrics.from: it is empty, so the NetworkPolicy would keep Prometheus out. Say where Prometheus runs, with a namespaceSelector for example." -}}
{{- end -}}
{{- range $number, $peer := $values.metrics.from -}}
{{- $path := printf "metrics.from.%d" $number -}}
{{- with $peer.ipBlock -}}
{{- include "concord.checkWidth" (dict "path" $path "cidr" .cidr "sentence" "is nearly everybody, and who scrapes is known by address alone" "hint" "Name the scraper's own network") -}}
{{- end -}}
{{- if hasKey $peer "namespaceSelector" -}}
{{- if and (include "concord.selectsAll" $peer.namespaceSelector) (include "concord.selectsAll" ($peer.podSelector | default dict)) -}}
{{- fail (printf "%s: its selectors take in the whole cluster, and nobody asks a scraper who he is. Name the scraper's namespace." $path) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "concord.checkPolicies" -}}
{{- $policy := .Values.networkPolicy -}}
{{- if not $policy.dns.podLabels -}}
{{- fail "networkPolicy.dns.podLabels: it is empty, so that every pod of that namespace would count as DNS. Give the labels of the DNS pods." -}}
{{- end -}}
{{- range $policy.dns.cidrs -}}
{{- include "concord.checkWidth" (dict "path" "networkPolicy.dns.cidrs" "cidr" . "sentence" "lets names be asked, and data be told, nearly everywhere" "hint" "Name the address of the DNS alone, such as 169.254.20.10/32") -}}
{{- end -}}
{{- if not $policy.enabled -}}
{{- if $policy.dns.cidrs -}}
{{- fail "networkPolicy.dns.cidrs: there is no policy when networkPolicy.enabled is false. Set it to true, or leave this empty." -}}
{{- end -}}
{{- if .Values.metrics.from -}}
{{- fail "metrics.from: without a NetworkPolicy it keeps nobody out. Set networkPolicy.enabled to true, or leave this empty." -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Refuses a network so wide that naming it says nothing. Of it: path, cidr, sentence, hint. */}}
{{- define "concord.checkWidth" -}}
{{- $least := ternary 16 8 (contains ":" .cidr) -}}
{{- if lt (int (regexFind "[0-9]+$" .cidr)) $least -}}
{{- fail (printf "%s: %s %s. %s; a prefix below /%d is refused." .path .cidr .sentence .hint $least) -}}
{{- end -}}
{{- end -}}

{{/* Whether a selector leaves nothing out, as far as one can tell: it is empty, or asks only whether a label is there that all have. */}}
{{- define "concord.selectsAll" -}}
{{- $asks := .matchLabels | default dict | len -}}
{{- range .matchExpressions -}}
{{- if not (or (eq .operator "DoesNotExist" "NotIn") (and (eq .operator "Exists") (eq .key "kubernetes.io/metadata.name"))) -}}
{{- $asks = add1 $asks -}}
{{- end -}}
{{- end -}}
{{- if eq (int $asks) 0 }}true{{ end -}}
{{- end -}}
